"""The manifest of a run, `run.json`: what was recorded, where, on which GPUs, and how it ended."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

from gpucost.errors import DamagedRunError, NewerSchemaError
from gpucost.schema import SCHEMA_VERSION

T = TypeVar("T")

RECORDING = "recording"
COMPLETE = "complete"
RECOVERED = "recovered"


@dataclass(slots=True)
class Gpu:
    """One device of a run, keyed by UUID.

    Attributes:
        uuid: the device's UUID (a MIG device has its own).
        name: NVML's product name; the price book and the specifications are keyed by it.
        host: the host it is in.
        index: NVML's index on that host (not CUDA's).
        held: the run holds it, so its time is billed.
        simulated: not a real device.
        memory_total_bytes: null where the driver does not say.
        memory_reserved_bytes: what the driver keeps for itself; memory above it means that somebody holds the GPU.
        power_limit_w: the enforced limit.
        pcie_gen_max: the fastest PCIe generation that card and slot can do together; likewise `pcie_width_max` in lanes.
        mig_parent_uuid: the physical GPU of a MIG device, else null.
        mig_fraction: the larger of the MIG device's compute and memory share of its parent (0 to 1), else null.
    """

    uuid: str
    name: str
    host: str = ""
    index: int | None = None
    held: bool = True
    simulated: bool = False
    memory_total_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    power_limit_w: float | None = None
    pci_bus_id: str | None = None
    architecture: str | None = None
    compute_capability: str | None = None
    mig_parent_uuid: str | None = None
    mig_fraction: float | None = None
    mig_profile: str | None = None
    pcie_gen_max: int | None = None
    pcie_width_max: int | None = None


@dataclass(slots=True)
class Host:
    """One machine of a run and the origin of its monotonic clock (the command's start on it)."""

    name: str
    start_time_ns: int
    start_mono_ns: int
    boot_id: str | None = None
    platform: str | None = None
    cpu_count: int | None = None
    memory_total_bytes: int | None = None


@dataclass(slots=True)
class Manifest:
    """What `run.json` holds. Times are of the command: `start` before it was started, `end` when it was seen to have ended.

    Attributes:
        status: `recording` until the recorder closed the run itself, then `complete`; `recovered` after `gpucost recover`.
        command: the arguments, secrets redacted.
        exit_code: the command's exit code as a shell would give it (128+N for signal N), null while unknown.
        bill: `visible` (the GPUs that the command can see are billed) or `node` (all of them are).
        price_request: the user's price per GPU-hour at recording time (`--price`, then `GPUCOST_PRICE`), as typed, or null.
        quotes: GPU UUID to the price quote (fields of `gpucost.prices.Quote`) that was resolved when the run was closed.
        parent_run_id: the run this one was recorded inside of, or null.
        driver: versions by name (`driver`, `nvml`, `cuda`).
        recorder: version, pid, start time of that pid, hz, collectors, and what else tells how the samples were made.
    """

    run_id: str
    command: list[str]
    start_time_ns: int
    start_mono_ns: int
    schema_version: int = SCHEMA_VERSION
    status: str = RECORDING
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    end_time_ns: int | None = None
    end_mono_ns: int | None = None
    exit_code: int | None = None
    parent_run_id: str | None = None
    bill: str = "visible"
    price_request: str | None = None
    quotes: dict[str, dict[str, Any]] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    gpus: list[Gpu] = field(default_factory=list)
    driver: dict[str, str] = field(default_factory=dict)
    recorder: dict[str, Any] = field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """Whether any device of the run is simulated."""
        return any(gpu.simulated for gpu in self.gpus)

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> "Manifest":
        """Read a manifest of this or an older version; fields it does not know are ignored.

        Raises:
            NewerSchemaError: the run was written by a newer gpucost.
            DamagedRunError: it is not a manifest, or a field has the wrong shape.
        """
        if not isinstance(data, dict) or not isinstance(data.get("schema_version"), int):
            raise DamagedRunError("run.json is not a gpucost manifest")
        if data["schema_version"] > SCHEMA_VERSION:
            raise NewerSchemaError(
                f"the run has schema version {data['schema_version']}, this gpucost reads up to {SCHEMA_VERSION}",
                hint="upgrade gpucost",
            )
        try:
            hosts = {str(name): _known(Host, value) for name, value in data.get("hosts", {}).items()}
            gpus = [_known(Gpu, value) for value in data.get("gpus", [])]
            return _known(cls, {**data, "hosts": hosts, "gpus": gpus})
        except (TypeError, AttributeError, ValueError) as error:
            raise DamagedRunError(f"run.json is damaged: {error}") from error


def merge(run: Manifest, joined: Manifest) -> Manifest:
    """A run's manifest with what a host says that joined it; doing it twice changes nothing.

    The run lasts from its own start to the latest end, and is closed once everybody has closed it. Its exit code is the first that is not 0.
    Ends are placed by the time of day, since every host has a monotonic clock of its own.
    """
    known = {(gpu.host, gpu.uuid) for gpu in run.gpus}
    ends = [run.end_time_ns, joined.end_time_ns]
    last_ns = None if None in ends else max(end for end in ends if end is not None)
    later = last_ns is not None and last_ns != run.end_time_ns
    end_mono_ns = run.start_mono_ns + last_ns - run.start_time_ns if later and last_ns is not None else run.end_mono_ns
    return replace(
        run,
        status=RECORDING if RECORDING in (run.status, joined.status) else run.status,
        end_time_ns=last_ns,
        end_mono_ns=None if last_ns is None else end_mono_ns,
        exit_code=None if None in (run.exit_code, joined.exit_code) else run.exit_code or joined.exit_code,
        quotes={**joined.quotes, **run.quotes},
        hosts={**joined.hosts, **run.hosts},
        gpus=[*run.gpus, *(gpu for gpu in joined.gpus if (gpu.host, gpu.uuid) not in known)],
    )


def _known(kind: type[T], data: dict[str, Any]) -> T:
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: value for key, value in data.items() if key in names})
