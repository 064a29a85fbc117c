"""The settings of one line as a tree of plain models: every key, its bounds, its meaning.

It knows nothing of files and the environment; `loader` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NoReturn, Self, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from drivers.device_identity import are_one_device, is_exclusive
from drivers.source import redacted
from monitor.errors import LineMonitorError
from monitor.names import NAME, NAME_PATTERN, NAME_RULE, VERSION

_SCHEMES = "rtsp:// gige:// file:// folder:// or simulated://"


class SettingsError(LineMonitorError):
    """The settings can't be used; the message has one line for each problem, with the key and the fix."""


class Choice(StrEnum):
    """One of the values of a setting that is a choice, and its meaning."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class Mode(Choice):
    EVERY_PART = "every-part", "every frame shows a part and gets a verdict before its deadline"
    LATEST = "latest", "a live view: only the newest frame is scored, and nothing is removed"


class OnUninspected(Choice):
    REJECT = "reject", "the line tells the gateway to remove the part, as after a reject"
    PASS = "pass", "the line sends no reject for the part; the gateway must be set up to let it through"
    STOP = "stop", "`ready` becomes false until a reset"


class PublishVerdicts(Choice):
    EVERY_PART = "every-part", "the verdicts of cameras with `mode` `every-part`"
    ALL = "all", "the verdicts of all cameras"
    NONE = "none", "no verdicts; rejects are still sent"


class RuntimeName(Choice):
    AUTO = "auto", "on a CPU the faster one, measured once; on a CUDA GPU `torch`"
    TORCH = "torch", "PyTorch, on a CPU or a CUDA GPU"
    OPENVINO = "openvino", "OpenVINO, on a CPU; needs the extra `openvino`"


class Precision(Choice):
    AUTO = "auto", "`f16` on a CUDA GPU; on a CPU the fastest of `f32`, `bf16` and `int8`, measured once"
    F32 = "f32", "32-bit floating point"
    BF16 = "bf16", "bfloat16, second look in `f32`; needs a CPU that has it (AVX512-BF16, AMX)"
    F16 = "f16", "16-bit floating point in the networks; needs a CUDA GPU"
    INT8 = "int8", "8-bit integers, second look in `f32`; needs OpenVINO and a recipe with an 8-bit model"


class ExpectedVerdict(Choice):
    PASS = "pass", "a good part"
    REJECT = "reject", "a bad part"


class JournalVerdicts(Choice):
    PROBLEMS = "problems", "every reject and every uninspected part"
    ALL = "all", "every verdict, so that each part can be traced"


class LogLevel(Choice):
    DEBUG = "debug", "everything, for people who look for a fault"
    INFO = "info", "what begins and what ends"
    WARNING = "warning", "trouble, and parts that were uninspected"
    ERROR = "error", "what somebody must look at"

    @property
    def number(self) -> int:
        """The number of this level in Python's `logging`."""
        return 10 * (list(LogLevel).index(self) + 1)


def _number(default: float, title: str, unit: str, **bounds: float) -> Any:
    """A setting that is a number. The bounds are those of pydantic's Field: ge, gt, le, lt."""
    return Field(default=default, title=title, json_schema_extra={"unit": unit}, **bounds)  # type: ignore[call-overload]


def _text(default: Any, title: str, allowed: str) -> Any:
    """A setting whose bounds are words."""
    return Field(default=default, title=title, json_schema_extra={"allowed": allowed})


def _check_host(host: str) -> str:
    if re.search(r"[\s/@]", host) or re.fullmatch(r"[^:]*:\d*", host):
        raise PydanticCustomError(
            "host", "must be an address alone, without mqtt:// or a port, which has its own key"
        )
    return host


def _check_date(value: object) -> object:
    """Refuses what pydantic would convert to a date: seconds since 1970, and a time of day."""
    is_day = isinstance(value, date) and not isinstance(value, datetime)
    if not is_day and not (isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII)):
        raise PydanticCustomError("no_date", "must be a date, as in 2027-05-31")
    return value


Name = Annotated[str, Field(pattern=NAME_PATTERN, json_schema_extra={"allowed": NAME_RULE})]
RecipeName = Annotated[str, Field(pattern=rf"^{NAME}(@{VERSION})?$")]
_Host = Annotated[str, AfterValidator(_check_host)]
_PAGE_URL = r"https?://(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:(?P<port>\d{1,5}))?(/[\w.~-]+)*/?"
_SHIFT_START = r"([01]\d|2[0-3]):[0-5][05]"
_PORT = {"ge": 0, "le": 65_535}
MOST_CHALLENGE_PARTS = 100
"""A ring's record has seven bits for the part that a frame shows."""
_PEM = "the path of a PEM file"


def plain_kind(field: FieldInfo) -> Any:
    """The type of a setting; of one that may be left out, the type that it has otherwise."""
    annotation = field.annotation
    return get_args(annotation)[0] if get_origin(annotation) is UnionType else annotation


def _refuse_as_number(value: object, kind: type) -> None:
    """Refuses true and text, which pydantic would convert. A number from a variable is no text any more."""
    if isinstance(value, bool):
        raise PydanticCustomError("no_number", "must be a number, not true or false")
    if isinstance(value, str):
        if re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", value, re.ASCII | re.IGNORECASE):
            raise PydanticCustomError("no_number", "must be a number without quotes")
        whole = "must be a whole number" if kind is int else "must be a number"
        raise PydanticCustomError("no_number", whole)


class _Table(BaseModel):
    """A TOML table. The docstring below each key is the key's description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _check_kind(cls, value: object, info: ValidationInfo) -> object:
        """Refuses what pydantic would convert: text or true as a number, and empty text as a path."""
        field = cls.model_fields[info.field_name or ""]
        kind = plain_kind(field)
        if kind in (int, float):
            _refuse_as_number(value, kind)
        elif get_origin(kind) is tuple and get_args(kind)[0] is int and isinstance(value, list | tuple):
            for number in value:
                _refuse_as_number(number, int)
        if value == "" and (kind is Path or (kind is str and field.default is not None)):
            raise PydanticCustomError("empty_text", "the text is empty")
        if kind is Path and isinstance(value, str) and value.startswith("~"):
            # The service's user has another home than the person who writes the settings.
            raise PydanticCustomError("home", "a path may not begin with ~: write it whole, as in /home/line")
        if isinstance(value, str) and "\0" in value:
            raise PydanticCustomError("zero_character", "the text has a zero character")
        return value


class LineSettings(_Table):
    """The line's names and the folder of its data."""

    site: Name = Field(default="plant1", title="Site name")
    """Name of the plant. It is the first word of every MQTT topic, as in `plant1/line1/status`."""
    name: Name = Field(default="line1", title="Line name")
    """Name of the line within the plant. It is the second word of every MQTT topic."""
    data: Path = _text(Path("/var/lib/line-monitor"), "Data folder", "a path")
    """Folder of the recipes, the snapshots and the journal. A relative path starts at the settings file."""


def default_actuate_ms(deadline_ms: int) -> int:
    """The gate's last moment where the settings do not give it."""
    return deadline_ms + 500


class CameraSettings(_Table):
    """One camera and the rules for its verdicts. Repeat the table for each camera."""

    name: Name = Field(title="Camera name")
    """Name of the camera in topics, metrics, files and commands. Every camera needs its own."""
    source: str = Field(title="Source", json_schema_extra={"allowed": f"begins with {_SCHEMES}"})
    """URL of the camera. Its scheme chooses the driver and its query holds the driver's options."""
    recipe: Name = Field(title="Recipe name")
    """Name of the recipe that judges the frames: a folder in `recipes/` of the data folder."""
    mode: Mode = Field(default=Mode.EVERY_PART, title="Mode")
    """Whether each frame shows a part."""
    deadline_ms: int = _number(250, "Deadline", "ms", ge=10, le=600_000)
    """Longest time from capture to the published verdict. A part without a verdict by then is uninspected."""
    actuate_ms: int = Field(
        default_factory=lambda given: default_actuate_ms(given.get("deadline_ms", 0)),
        title="Last moment of the gate",
        ge=0,
        le=3_600_000,
        json_schema_extra={"unit": "ms", "default": "`deadline_ms` + 500"},
    )
    """Time from capture to the last moment at which the gate can act. Nothing is sent about a part after it.
    It must be larger than `deadline_ms`."""
    on_uninspected: OnUninspected = Field(default=OnUninspected.REJECT, title="Uninspected parts")
    """What happens to an uninspected part: one that could not be judged by its deadline."""
    roi: tuple[int, int, int, int] | None = _text(
        None, "Region of interest", "[x, y, width, height] in pixels; x and y from 0, width and height from 1"
    )
    """Part of the camera's image that is inspected. Without it the whole image is inspected."""
    stop_after_rejects: int = _number(0, "Stop after rejects", "rejects", ge=0, le=10_000)
    """This many rejects in a row set `ready` to false until a reset. 0 turns this off."""
    stop_reject_rate: float = _number(0.0, "Stop at a share of rejects", "(0.2 is 20 %)", ge=0, lt=1)
    """A larger share of rejects among the last `stop_reject_window` judged parts sets `ready` to false until
    a reset. 0 turns this off."""
    stop_reject_window: int = _number(100, "Parts in the share of rejects", "parts", ge=2, le=10_000)
    """Number of judged parts over which the share of `stop_reject_rate` is taken."""

    @field_validator("source")
    @classmethod
    def _check_scheme(cls, source: str) -> str:
        if "://" not in source:
            raise ValueError(f"the source has no scheme; begin it with {_SCHEMES}")
        return source

    @field_validator("roi")
    @classmethod
    def _check_roi(cls, roi: tuple[int, int, int, int] | None) -> tuple[int, int, int, int] | None:
        if roi is not None and (min(roi[:2]) < 0 or min(roi[2:]) < 1):
            raise ValueError("roi is [x, y, width, height]; set x and y from 0, width and height from 1")
        return roi

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.actuate_ms <= self.deadline_ms:
            raise ValueError(
                f"actuate_ms ({self.actuate_ms}) must be larger than deadline_ms ({self.deadline_ms}), since "
                "the gate needs time after the verdict; raise actuate_ms or lower deadline_ms"
            )
        if self.mode is Mode.LATEST and (self.stop_after_rejects or self.stop_reject_rate):
            raise ValueError(
                'mode "latest" never stops the line; remove stop_after_rejects and stop_reject_rate, '
                'or set mode = "every-part"'
            )
        return self


class ScoringSettings(_Table):
    """How this machine computes the scores."""

    device: str = Field(
        default="auto",
        title="Device",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        json_schema_extra={"allowed": "`auto`, `cpu`, `cuda` or `cuda:N`"},
    )
    """Processor that computes the scores. `auto` is the first CUDA GPU if there is one, else the CPU.
    `cuda:1` is the second GPU."""
    runtime: RuntimeName = Field(default=RuntimeName.AUTO, title="Runtime")
    """Program library that computes the scores."""
    precision: Precision = Field(default=Precision.AUTO, title="Precision")
    """Number format of the computation."""


class RecipeSettings(_Table):
    """How many versions of a recipe are kept, and which recipes are changed over to together."""

    keep_versions: int = _number(50, "Versions of a recipe", "versions", ge=1, le=10_000)
    """Number of versions of each recipe above which a training, a calibration or a threshold accepted on the
    page removes the oldest. The newest version, the one in force and all that were ever promoted stay."""
    sets: dict[Name, dict[Name, RecipeName]] = _text(
        {}, "Sets of recipes", 'tables `[recipes.sets.NAME]` with a line `camera = "recipe"` for each camera'
    )
    """Recipes that several cameras are changed over to at once with `line-monitor recipes use NAME`, on the
    page or over MQTT: by camera, a recipe's name or `name@version`."""


class MqttSettings(_Table):
    """The connection to the MQTT broker. It uses TLS if `ca_file` or `cert_file` is set."""

    host: _Host = _text("127.0.0.1", "Broker address", "a host name or an IP address")
    """Address of the broker."""
    port: int = _number(1883, "Broker port", "(TCP port)", ge=1, le=65_535)
    """Port of the broker. 8883 is usual with TLS."""
    username: str | None = _text(None, "User name", "any text")
    """Name of the line's account at the broker. Without it the line connects without an account."""
    password: SecretStr | None = _text(None, "Password", "any text")
    """Password of the account. Better kept out of this file: in the environment variable
    `LINE_MONITOR__MQTT__PASSWORD` or the systemd credential `mqtt_password`, which override it."""
    ca_file: Path | None = _text(None, "Certificate authority", _PEM)
    """Certificates of the authorities that may have signed the broker's certificate."""
    cert_file: Path | None = _text(None, "Certificate of the line", _PEM)
    """Certificate by which the line shows the broker who it is. It needs `key_file`."""
    key_file: Path | None = _text(None, "Private key of the line", _PEM)
    """Private key of `cert_file`."""
    protocol: int = _number(5, "MQTT version", "(5 is MQTT 5, 4 is MQTT 3.1.1)", ge=4, le=5)
    """Version of MQTT that the broker uses. MQTT 3.1.1 has no expiry of messages."""
    keepalive_s: int = _number(3, "Keepalive", "s", ge=1, le=60)
    """Longest silence on the connection. The broker reports the line as `offline` after 1.5 times this."""
    publish_verdicts: PublishVerdicts = Field(default=PublishVerdicts.EVERY_PART, title="Published verdicts")
    """Which verdicts are sent to the topics `<site>/<name>/<camera>/verdict`."""
    ack_timeout_ms: int = _number(0, "Time to acknowledge", "ms", ge=0, le=600_000)
    """Time in which the gateway must acknowledge a reject. A reject that is not acknowledged by then sets
    `ready` to false until a reset. 0 is for gateways that don't acknowledge."""

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together; set both or neither")
        return self


class SnapshotSettings(_Table):
    """Which pictures of parts are kept, and how many."""

    keep_days: FiniteFloat = _number(30, "Age of snapshots", "days", gt=0)
    """Age at which a snapshot is deleted. A snapshot with a label stays while there is space."""
    max_gb: FiniteFloat = _number(50.0, "Size of snapshots", "GB", gt=0)
    """Largest size of all snapshots together. The oldest are deleted first, those with a label last."""
    min_free_gb: FiniteFloat = _number(5.0, "Free disk space", "GB", ge=0)
    """Disk space that snapshots leave free. With less, the oldest snapshots are deleted; if that is not
    enough, no new ones are written."""
    pass_every: int = _number(0, "Snapshots of passed frames", "frames", ge=0)
    """Every Nth passed frame also gets a snapshot. 0 turns this off."""


_Day = Annotated[date, BeforeValidator(_check_date)]


def _day(title: str) -> Any:
    return Field(title=title, json_schema_extra={"allowed": "a date, as in 2027-05-31"})


class ChallengePartSettings(_Table):
    """One known part with which the line is challenged. Repeat the table for each part."""

    id: Name = Field(title="Part's name")
    """Name that is written on the part."""
    camera: Name = Field(title="Camera")
    """Name of the camera under which the part is laid. Its `mode` is `every-part`."""
    expected: ExpectedVerdict = Field(title="Expected verdict")
    """Verdict that the part must get."""
    description: str | None = _text(None, "Description", "any text")
    """What the part shows, such as its defect, and where it is kept."""
    verified_by: str = Field(title="Verified by", min_length=1, json_schema_extra={"allowed": "any text"})
    """Person who verified that the part is what it is said to be."""
    verified: _Day = _day("Verified on")
    """Day on which the part was verified."""
    expires: _Day = _day("Usable until")
    """Last day on which the part may be used, by `review.time_zone`. Later a challenge can't succeed until
    it is verified again."""

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.expires < self.verified:
            raise ValueError(
                f"expires ({self.expires}) is before verified ({self.verified}); correct one of the two"
            )
        return self


class ChallengeSettings(_Table):
    """Known good and bad parts that show whether the line still tells them apart. Without parts it is off."""

    at_start: bool = _text(True, "Challenge at the start", "`true` or `false`")
    """Whether the line is not ready after each start of the service until the parts got their verdicts."""
    after_changeover: bool = _text(True, "Challenge after a changeover", "`true` or `false`")
    """The same after another recipe or version came in force at a camera that has a part."""
    every_h: FiniteFloat = _number(0.0, "Time between challenges", "h", ge=0, le=8_784)
    """Time after the last success at which the line is challenged again. 0 turns this off."""
    part: tuple[ChallengePartSettings, ...] = _text(
        (), "Parts", "`[[challenge.part]]` in double brackets, once for each part"
    )
    """The parts, in the order in which they are laid under the cameras."""

    @field_validator("part")
    @classmethod
    def _check_parts(cls, parts: tuple[ChallengePartSettings, ...]) -> tuple[ChallengePartSettings, ...]:
        if len(parts) > MOST_CHALLENGE_PARTS:
            raise ValueError(f"there are {len(parts)} parts; name at most {MOST_CHALLENGE_PARTS}")
        names = [part.id for part in parts]
        if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
            raise ValueError(f"two parts are called {twice!r}; give each part its own id")
        return parts

    def find_id(self, number: int) -> str | None:
        """The name of the part with that number, from 1; None for 0, a frame of production."""
        if number == 0:
            return None
        # After a restart with other settings, a killed service's frame may have a part that is gone.
        return self.part[number - 1].id if number <= len(self.part) else f"number-{number}"

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that have a part, in the order of the parts."""
        return tuple(dict.fromkeys(part.camera for part in self.part))


class JournalSettings(_Table):
    """Which verdicts the journal records, and for how long."""

    verdicts: JournalVerdicts = Field(default=JournalVerdicts.PROBLEMS, title="Recorded verdicts")
    """Which verdicts are recorded."""
    keep_days: float = _number(365, "Age of entries", "days", gt=0, le=36_500)
    """Age at which an entry is deleted."""
    max_gb: FiniteFloat = _number(1.0, "Size of the journal", "GB", gt=0)
    """Largest size of the journal. The oldest entries are deleted first, and passed parts before others."""


class MetricsSettings(_Table):
    """The metrics for Prometheus."""

    port: int = _number(9108, "Metrics port", "(TCP port)", **_PORT)
    """Port on which Prometheus reads the metrics. 0 turns them off."""


class ReviewSettings(_Table):
    """The operators' page."""

    host: _Host = _text("127.0.0.1", "Page address", "a host name or an IP address")
    """Address on which the page is served. `0.0.0.0` serves it to other machines, which needs
    `password_hash`."""
    port: int = _number(8080, "Page port", "(TCP port)", **_PORT)
    """Port of the page. 0 turns it off."""
    public_url: str | None = _text(
        None, "Public address of the page", "begins with https:// or http://, then a host name"
    )
    """Address that browsers open where a TLS proxy on this machine serves the page. Without it the page is
    opened by this machine's own names alone."""
    password_hash: SecretStr | None = _text(
        None, "Page password hash", "made by `line-monitor review --hash-password`"
    )
    """Hash of the password of the page. Better kept out of this file: in the systemd credential
    `review_password`, which overrides it."""
    shifts: tuple[str, ...] = Field(
        default=("06:00", "14:00", "22:00"),
        title="Shifts",
        json_schema_extra={"allowed": "times as HH:MM in ascending order, each a multiple of 5 minutes"},
    )
    """Local times at which the shifts begin. The last one ends when the first one begins. Parts are counted
    by shift."""
    time_zone: str | None = _text(None, "Time zone", "a name such as Europe/Berlin")
    """Zone of the times on the page and in reports. Without it, the zone of this machine."""
    accounts: Path = _text(Path("accounts.json"), "Accounts file", "a path")
    """File of the named accounts, which `line-monitor accounts` makes. A relative path starts at the data
    folder. Once there is an account, page and commands ask for a name and its password, and `password_hash`
    counts no more."""

    @field_validator("shifts")
    @classmethod
    def _check_shifts(cls, shifts: tuple[str, ...]) -> tuple[str, ...]:
        are_times = all(re.fullmatch(_SHIFT_START, start, re.ASCII) for start in shifts)
        if not shifts or not are_times or list(shifts) != sorted(set(shifts)):
            raise PydanticCustomError("shifts", "must be the times at which the shifts begin")
        return shifts

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, zone: str | None) -> str | None:
        try:
            if zone is not None:
                ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            message = "must be a time zone that this machine knows"
            raise PydanticCustomError("time_zone", message) from None
        return zone

    @property
    def address(self) -> str | None:
        """The address of the page for links, without a slash at its end; None if it is off or not known."""
        if self.port == 0:
            return None
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return None if self.host in ("0.0.0.0", "::") else f"http://{host}:{self.port}"

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, url: str | None) -> str | None:
        found = re.fullmatch(_PAGE_URL, url, re.ASCII | re.IGNORECASE) if url is not None else None
        if url is not None and (found is None or int(found["port"] or 1) > 65_535):
            message = "must be the address that browsers open, as https://line-pc.example"
            raise PydanticCustomError("public_url", message)
        return url


def _refuse_camera(message: str, place: int, key: str) -> NoReturn:
    """Raises an error about a key of the camera at that place among the cameras."""
    raise PydanticCustomError("two_cameras", "{message}", {"message": message, "at": (place, key)})


class LogSettings(_Table):
    """The log. A running line takes a change over with `systemctl reload line-monitor`."""

    level: LogLevel = Field(default=LogLevel.INFO, title="Level of the log")
    """The least important lines that are written."""


def _table(model: type[_Table], title: str) -> Any:
    """A TOML table that may be left out, as every key in it has a default."""
    return Field(default=model(), title=title, description=model.__doc__)


class Settings(_Table):
    """All settings of a line, as a plain model: making one reads no file and no environment."""

    line: LineSettings = _table(LineSettings, "Line")
    camera: tuple[CameraSettings, ...] = Field(
        default=(), title="Cameras", description=CameraSettings.__doc__
    )
    scoring: ScoringSettings = _table(ScoringSettings, "Scoring")
    recipes: RecipeSettings = _table(RecipeSettings, "Recipes")
    mqtt: MqttSettings = _table(MqttSettings, "MQTT")
    challenge: ChallengeSettings = _table(ChallengeSettings, "Challenge parts")
    snapshots: SnapshotSettings = _table(SnapshotSettings, "Snapshots")
    journal: JournalSettings = _table(JournalSettings, "Journal")
    metrics: MetricsSettings = _table(MetricsSettings, "Metrics")
    review: ReviewSettings = _table(ReviewSettings, "Review page")
    log: LogSettings = _table(LogSettings, "Log")

    @field_validator("camera")
    @classmethod
    def _check_names(cls, cameras: tuple[CameraSettings, ...]) -> tuple[CameraSettings, ...]:
        names = [camera.name for camera in cameras]
        for place, camera in enumerate(cameras):
            if camera.name in names[:place]:
                message = f"two cameras are called {camera.name!r}; give each camera its own name"
                _refuse_camera(message, place, "name")
            for other in cameras[:place]:
                if is_exclusive(camera.source) and are_one_device(camera.source, other.source):
                    message = (
                        f"cameras {other.name!r} and {camera.name!r} have the same source "
                        f"{redacted(camera.source)}, and a GigE Vision camera serves one at a time; "
                        "correct the source of one, or remove one"
                    )
                    _refuse_camera(message, place, "source")
        return cameras

    @field_validator("challenge")
    @classmethod
    def _check_challenge(cls, challenge: ChallengeSettings, info: ValidationInfo) -> ChallengeSettings:
        cameras: tuple[CameraSettings, ...] | None = info.data.get("camera")
        modes = {camera.name: camera.mode for camera in cameras or ()}
        # Wrong cameras have lines of their own.
        for part in challenge.part if cameras is not None else ():
            mode = modes.get(part.camera)
            if mode is not Mode.EVERY_PART:
                why = "does not exist" if mode is None else 'has mode = "latest"'
                known = [name for name, mode in modes.items() if mode is Mode.EVERY_PART]
                raise ValueError(
                    f"part {part.id!r}: camera {part.camera!r} {why}; name one whose mode is "
                    f"every-part: {', '.join(known) or 'there is none'}"
                )
        return challenge

    @property
    def prefix(self) -> str:
        """The first two words of every MQTT topic of this line."""
        return f"{self.line.site}/{self.line.name}"

    def camera_named(self, name: str) -> CameraSettings:
        """The settings of one camera. Raises SettingsError if no camera has this name."""
        for camera in self.camera:
            if camera.name == name:
                return camera
        known = ", ".join(camera.name for camera in self.camera) or "none"
        raise SettingsError(f"no camera called {name!r} in the settings; there are: {known}")


def rows_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of each table in a list of tables such as `[[challenge.part]]`; None for other settings."""
    kind = plain_kind(field)
    inner = get_args(kind)[0] if get_origin(kind) is tuple else None
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def model_at(path: Sequence[str]) -> type[BaseModel] | None:
    """The model whose keys come after that path of names; None where there is none."""
    model = tables().get(path[0]) if path else None
    for key in path[1:]:
        field = model.model_fields.get(key) if model is not None else None
        model = rows_of(field) if field is not None else None
    return model


def tables() -> dict[str, type[BaseModel]]:
    """The model of each TOML table, by the table's name."""
    found: dict[str, Any] = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {**found, "camera": CameraSettings}


def unit_and_bounds(field: FieldInfo) -> str:
    """The values that a setting can have, in words, as in `10 to 600000 ms`; empty for choices."""
    extra = field.json_schema_extra
    if not isinstance(extra, dict):
        return ""
    if "allowed" in extra:
        return str(extra["allowed"])
    bounds = {
        name: value
        for constraint in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if (value := getattr(constraint, name, None)) is not None
    }
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    if bounds.keys() == {"ge", "le"}:
        numbers = f"{bounds['ge']} to {bounds['le']}"
    else:
        numbers = ", ".join(f"{words[name]} {value}" for name, value in bounds.items())
    return f"{numbers} {extra['unit']}"
