"""The store: a run's directory on disk, from the journal that the recorder appends to, to Parquet, to frames.

`journal` writes, `segment` reads what it wrote, `seal` turns closed segments into Parquet parts, `reader` gives a recording back, and
`recover` mends a run that was not closed. Nothing here knows what a GPU or a price is. Importing this package imports none of them.
"""
