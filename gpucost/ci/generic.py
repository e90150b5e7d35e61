"""Any other CI: the files are all there is; whatever collects them shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpucost.ci.contract import Attachment, Options, Silent, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Generic(Silent):
    """A CI that is not known; see `gpucost.ci.contract.Forge`."""

    def number(self, environ: Mapping[str, str]) -> str | None:  # noqa: ARG002
        """Not known."""
        return None

    def attach(
        self,
        attachment: Attachment,  # noqa: ARG002 (nothing is attached to nothing)
        options: Options,  # noqa: ARG002
        environ: Mapping[str, str],  # noqa: ARG002
        say: Callable[[str], None],  # noqa: ARG002
    ) -> list[Step]:
        """Nothing to attach to."""
        return [Step("comment", done=False, text="no CI was recognized, so nothing but the files was written")]
