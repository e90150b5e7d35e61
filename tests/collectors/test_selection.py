"""Which GPUs a run holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpucost.collectors.selection import Choice, Identity, Selection, choose, parse_gpus
from gpucost.errors import UsageError

ALIKE = [Identity(f"GPU-{letter * 8}-0000", index, "H100") for index, letter in enumerate("abcd")]
MIXED = [Identity("GPU-aaaa", 0, "A100"), Identity("GPU-abbb", 1, "H100"), Identity("GPU-cccc", 2, "H100")]
MIG = [
    Identity("GPU-aaaa", 0, "A100", mig_enabled=True),
    Identity("MIG-1111", 0, "A100", parent_uuid="GPU-aaaa", gpu_instance=7, compute_instance=0),
    Identity("MIG-1222", 0, "A100", parent_uuid="GPU-aaaa", gpu_instance=8, compute_instance=1),
    Identity("GPU-bbbb", 1, "A100", mig_enabled=True),
    Identity("GPU-cccc", 2, "A100"),
]


def held(
    devices: list[Identity], cuda: str | None = None, gpus: str = "", bill: str = "visible", order: str = ""
) -> Choice:
    """The choice for a value of CUDA_VISIBLE_DEVICES (None: not set) and one of --gpus."""
    environ = {} if cuda is None else {"CUDA_VISIBLE_DEVICES": cuda}
    environ |= {"CUDA_DEVICE_ORDER": order} if order else {}
    return choose(devices, parse_gpus(gpus), environ, bill)


def indices(choice: Choice, devices: list[Identity]) -> list[int]:
    """The held devices as positions in the list."""
    return [position for position, device in enumerate(devices) if device.uuid in choice.held]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Selection()),
        ("  ", Selection()),
        ("all", Selection("all", everything=True)),
        ("ALL", Selection("ALL", everything=True)),
        ("0", Selection("0", entries=("0",))),
        ("0, 2", Selection("0, 2", entries=("0", "2"))),
        ("GPU-8932f937,1,MIG-ab", Selection("GPU-8932f937,1,MIG-ab", entries=("GPU-8932f937", "1", "MIG-ab"))),
        ("sim:h100:2", Selection("sim:h100:2", simulated="h100:2")),
        ("SIM:a100", Selection("SIM:a100", simulated="a100")),
    ],
)
def test_gpus_is_read_without_knowing_the_machine(text: str, expected: Selection) -> None:
    """All forms are recognised by their shape alone."""
    assert parse_gpus(text) == expected
    assert parse_gpus(text).given == bool(text.strip())


@pytest.mark.parametrize(
    "text", ["x", "-1", "0,", ",", "0,,1", "all,0", "0,all", "0,sim:h100:1", "1.5", "gpu0", "\u00b2", "0;1"]
)
def test_an_impossible_gpus_is_one_clear_line(text: str) -> None:
    """The line shows what was typed."""
    with pytest.raises(UsageError) as caught:
        parse_gpus(text)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cuda", "expected"),
    [
        (None, [0, 1, 2, 3]),
        ("", []),
        ("0", [0]),
        ("2,0", [0, 2]),
        ("0,2,-1,1", [0, 2]),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,9,1", [0]),
        ("9", []),
        (" 1 , 3", [1, 3]),
        ("1gpu,2x", [1, 2]),
        ("0,,1", [0]),
        ("0-2", [0]),
        ("1,1", []),
        ("0,GPU-bbbbbbbb", [0]),
        ("GPU-bbbbbbbb-0000", [1]),
        ("GPU-c,GPU-a", [0, 2]),
        ("GPU-b,GPU-bbbb", []),
        ("GPU-b,0", [1]),
        ("GPU-b, GPU-c", [1]),
        ("GPU-", []),
        ("GPU-x,GPU-a", []),
        ("GPU-a,MIG-1", [0]),
        ("0," + "9" * 5000, [0]),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(cuda: str | None, expected: list[int]) -> None:
    """Lists end at the first entry that is no GPU; a GPU named twice leaves none; UUIDs may be cut short while unique."""
    assert indices(held(ALIKE, cuda), ALIKE) == expected


@pytest.mark.parametrize(
    ("cuda", "says"),
    [
        (None, None),
        ("0,1", None),
        ("", "hides every GPU"),
        ("-1", "hides every GPU"),
        ("0,9", "stops reading at `9`"),
        ("1,1", "names a GPU twice"),
    ],
)
def test_what_is_unusual_about_the_variable_is_said(cuda: str | None, says: str | None) -> None:
    """One note where the variable does something that its author may not expect, none otherwise."""
    notes = held(ALIKE, cuda).notes
    assert len(notes) == (says is not None)
    assert says is None or says in notes[0]


@pytest.mark.parametrize(
    ("devices", "cuda", "order", "uncertain"),
    [
        (MIXED, "0", "", True),
        (MIXED, "1,2", "FASTEST_FIRST", True),
        (MIXED, "0", "PCI_BUS_ID", False),
        (MIXED, "2,1,0", "", False),
        (MIXED, "GPU-aaaa", "", False),
        (MIXED, None, "", False),
        (ALIKE, "0", "", False),
    ],
)
def test_integers_are_uncertain_only_when_cuda_sorts_different_gpus(
    devices: list[Identity], cuda: str | None, order: str, uncertain: bool
) -> None:
    """The note comes when a different order could change which GPUs are meant, and only then."""
    notes = held(devices, cuda, order=order).notes
    assert any("fastest GPU first" in note for note in notes) == uncertain


def test_a_beginning_that_two_gpus_share_ends_the_list() -> None:
    """`GPU-a` fits two GPUs here, so CUDA takes neither."""
    assert held(MIXED, "GPU-c,GPU-a").held == ("GPU-cccc",)


@pytest.mark.parametrize(
    ("cuda", "expected"),
    [
        (None, ["MIG-1111", "MIG-1222", "GPU-cccc"]),
        ("0", ["MIG-1111"]),
        ("0,2", ["MIG-1111", "GPU-cccc"]),
        ("1", []),
        ("2,1,0", ["GPU-cccc"]),
        ("GPU-aaaa", ["MIG-1111"]),
        ("MIG-1222", ["MIG-1222"]),
        ("MIG-12", ["MIG-1222"]),
        ("MIG-1", []),
        ("MIG-GPU-aaaa/8/1", ["MIG-1222"]),
        ("MIG-GPU-aaaa/8/0", []),
        ("MIG-1222,MIG-1111", ["MIG-1111", "MIG-1222"]),
        ("MIG-1222,GPU-cccc", ["MIG-1222"]),
    ],
)
def test_a_gpu_in_mig_mode_is_visible_as_its_mig_devices_only(cuda: str | None, expected: list[str]) -> None:
    """By UUID, by the older GPU/instance form, or through the GPU, which stands for its first MIG device."""
    assert list(held(MIG, cuda).held) == expected


def test_the_parents_of_held_mig_devices_are_sampled_too() -> None:
    """Power and energy exist on the GPU alone, so it is sampled without being held."""
    choice = held(MIG, "MIG-1222")
    assert choice.held == ("MIG-1222",)
    assert choice.sampled == ("GPU-aaaa", "MIG-1222")


@pytest.mark.parametrize(
    ("cuda", "says"), [(None, "one MIG device at a time"), ("0", "its first MIG device"), ("MIG-1111", None)]
)
def test_what_mig_changes_is_said(cuda: str | None, says: str | None) -> None:
    """A CUDA process uses one MIG device, and a GPU in MIG mode stands for its first."""
    notes = held(MIG, cuda).notes
    assert bool(notes) == (says is not None)
    assert says is None or says in notes[0]


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        ("all", ["MIG-1111", "MIG-1222", "GPU-bbbb", "GPU-cccc"]),
        ("0", ["MIG-1111", "MIG-1222"]),
        ("1", ["GPU-bbbb"]),
        ("2,0", ["MIG-1111", "MIG-1222", "GPU-cccc"]),
        ("gpu-C", ["GPU-cccc"]),
        ("MIG-12,2,2", ["MIG-1222", "GPU-cccc"]),
        ("MIG-GPU-aaaa/7/0", ["MIG-1111"]),
        ("GPU-aaaa,MIG-1111", ["MIG-1111", "MIG-1222"]),
    ],
)
def test_gpus_overrules_the_environment(gpus: str, expected: list[str]) -> None:
    """What the user names is held, whatever CUDA sees; a GPU in MIG mode is held as all its MIG devices."""
    assert list(held(MIG, "", gpus).held) == expected


@pytest.mark.parametrize(
    ("gpus", "says"),
    [
        ("9", "`9`"),
        ("9" * 5000, "no GPU"),
        ("GPU-x", "`GPU-x`"),
        ("0,MIG-9", "`MIG-9`"),
        ("MIG-1", "beginning of 2 UUIDs"),
    ],
)
def test_a_gpu_that_is_not_here_is_one_clear_line(gpus: str, says: str) -> None:
    """The line says which entry, and a hint says where the right ones are listed."""
    with pytest.raises(UsageError, match=says) as caught:
        held(MIG, None, gpus)
    assert "nvidia-smi -L" in caught.value.hint


def test_an_exact_uuid_wins_over_one_that_it_begins() -> None:
    """A UUID is not ambiguous because another one is longer."""
    devices = [Identity("GPU-a", 0), Identity("GPU-ab", 1)]
    assert held(devices, "GPU-a").held == ("GPU-a",)


@pytest.mark.parametrize("cuda", [None, "", "0", "GPU-cccc"])
@pytest.mark.parametrize("gpus", ["", "all", "2"])
def test_a_billed_node_is_held_whole(cuda: str | None, gpus: str) -> None:
    """With --bill node every device is held; that this overrules --gpus is said."""
    choice = held(MIG, cuda, gpus, bill="node")
    assert choice.held == ("MIG-1111", "MIG-1222", "GPU-bbbb", "GPU-cccc")
    assert len(choice.notes) == (gpus == "2")


def test_a_host_without_gpus_holds_none() -> None:
    """Nothing to choose from is not an error unless a GPU was named."""
    assert held([]) == Choice((), ())
    assert held([], gpus="all") == Choice((), ())
    with pytest.raises(UsageError, match="there are: none"):
        held([], gpus="0")


words = st.lists(
    st.one_of(
        st.integers(-2, 6).map(str), st.sampled_from(["GPU-a", "MIG-1", "MIG-11", "GPU-", "", " ", "x", "+1", "1x"])
    ),
    max_size=5,
)


@given(words, st.sampled_from([ALIKE, MIXED, MIG]))
def test_no_value_of_the_variable_breaks_anything(entries: list[str], devices: list[Identity]) -> None:
    """Whatever is in the variable, the held devices are devices of the host, each once, and never a GPU cut into MIG devices."""
    choice = held(devices, ",".join(entries))
    known = [device.uuid for device in devices]
    assert list(choice.held) == [uuid for uuid in known if uuid in choice.held]
    assert set(choice.held) <= set(choice.sampled) <= set(known)
    assert not {device.uuid for device in devices if device.mig_enabled and device.uuid in choice.held}


@given(st.text(max_size=30))
def test_any_text_for_gpus_is_read_or_refused(text: str) -> None:
    """There is no third outcome."""
    try:
        selection = parse_gpus(text)
    except UsageError:
        return
    assert selection.text == text.strip()
