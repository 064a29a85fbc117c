"""The settings of one line: a tree of plain models, and the loader that fills it from a TOML file, the
environment and systemd credentials.

It knows nothing of cameras, brokers or recipes; `check` tests whether the things that settings name exist.
Only `load_settings` reads a file or the environment; a worker process gets its settings from the supervisor.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnreadableSource

from monitor.errors import LineMonitorError
from monitor.names import NAME_PATTERN, NAME_RULE

CONFIG_VARIABLE = "LINE_MONITOR_CONFIG"
DEFAULT_FILES = (Path("config/line.toml"), Path("/etc/line-monitor/line.toml"))
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
    AUTO = "auto", "`openvino` on a CPU if it is installed, else `torch`"
    TORCH = "torch", "PyTorch, on a CPU or a CUDA GPU"
    OPENVINO = "openvino", "OpenVINO, on a CPU; needs the extra `openvino`"


class Precision(Choice):
    AUTO = "auto", "`f16` on a CUDA GPU, `f32` on a CPU"
    F32 = "f32", "32-bit floating point"
    F16 = "f16", "16-bit floating point in the networks; needs a CUDA GPU"
    INT8 = "int8", "8-bit integers; needs OpenVINO and a recipe with an 8-bit model"


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


Name = Annotated[str, Field(pattern=NAME_PATTERN, json_schema_extra={"allowed": NAME_RULE})]
_PORT = {"ge": 0, "le": 65_535}
_PEM = "the path of a PEM file"


class _Table(BaseModel):
    """A TOML table. The docstring below each key is the key's description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class LineSettings(_Table):
    """The line's names and the folder of its data."""

    site: Name = Field(default="plant1", title="Site name")
    """Name of the plant. It is the first word of every MQTT topic, as in `plant1/line1/status`."""
    name: Name = Field(default="line1", title="Line name")
    """Name of the line within the plant. It is the second word of every MQTT topic."""
    data: Path = _text(Path("/var/lib/line-monitor"), "Data folder", "a path")
    """Folder of the recipes, the snapshots and the journal. A relative path starts at the settings file."""


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
        default_factory=lambda given: given.get("deadline_ms", 0) + 500,
        title="Last moment of the gate",
        ge=0,
        le=3_600_000,
        json_schema_extra={"unit": "ms", "default": "`deadline_ms` + 500"},
    )
    """Time from capture to the last moment at which the gate can act. Nothing is sent about a part after it.
    It must be larger than `deadline_ms`."""
    on_uninspected: OnUninspected = Field(default=OnUninspected.REJECT, title="Uninspected parts")
    """What happens to a part that was not judged in time."""
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


class MqttSettings(_Table):
    """The connection to the MQTT broker. It uses TLS if `ca_file` or `cert_file` is set."""

    host: str = _text("127.0.0.1", "Broker address", "a host name or an IP address")
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

    host: str = _text("127.0.0.1", "Page address", "a host name or an IP address")
    """Address on which the page is served. `0.0.0.0` serves it to other machines, which needs
    `password_hash`."""
    port: int = _number(8080, "Page port", "(TCP port)", **_PORT)
    """Port of the page. 0 turns it off."""
    password_hash: SecretStr | None = _text(
        None, "Page password hash", "made by `line-monitor review --hash-password`"
    )
    """Hash of the password of the page. Better kept out of this file: in the systemd credential
    `review_password`, which overrides it."""


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
    mqtt: MqttSettings = _table(MqttSettings, "MQTT")
    snapshots: SnapshotSettings = _table(SnapshotSettings, "Snapshots")
    journal: JournalSettings = _table(JournalSettings, "Journal")
    metrics: MetricsSettings = _table(MetricsSettings, "Metrics")
    review: ReviewSettings = _table(ReviewSettings, "Review page")
    log: LogSettings = _table(LogSettings, "Log")

    @field_validator("camera")
    @classmethod
    def _check_names(cls, cameras: tuple[CameraSettings, ...]) -> tuple[CameraSettings, ...]:
        names = [camera.name for camera in cameras]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two cameras are called {name!r}; give each camera its own name")
        return cameras

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


class _MergedSettings(Settings, BaseSettings):
    """The file's settings, which are the arguments, with the environment and the credentials merged in."""

    model_config = SettingsConfigDict(
        env_prefix="LINE_MONITOR__", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment overrides the credentials, and the credentials override the file."""
        return env_settings, _Credentials(settings_cls), init_settings


_CREDENTIALS = {"mqtt_password": ("mqtt", "password"), "review_password": ("review", "password_hash")}


class _Credentials(InitSettingsSource):
    """Secrets in files of the folder that systemd provides (systemd.exec(5), LoadCredential=)."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        found: dict[str, Any] = {}
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder:
            for credential, (table, key) in _CREDENTIALS.items():
                # An empty file counts as none, because the unit names files that may hold no secret.
                if secret := _read_secret(Path(folder) / credential):
                    found[table] = {key: secret}
        super().__init__(settings_cls, init_kwargs=found)


def _read_secret(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError(
            f"credential {file}: {why}; make it a text file that the service's user can read"
        ) from None


def find_settings_file(config: Path | None) -> Path:
    """The settings file: `config` if given, else $LINE_MONITOR_CONFIG, else the first default that exists."""
    if config is not None:
        return config
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    forbidden = []
    for file in DEFAULT_FILES:
        try:
            if file.is_file():
                return file
        except PermissionError:
            forbidden.append(file)
    if forbidden:
        raise SettingsError(
            f"{forbidden[-1]}: this user may not read the folder; use sudo -u line-monitor, "
            "or name a file with --config FILE"
        )
    raise SettingsError(
        f"no settings file at {' or '.join(map(str, DEFAULT_FILES))}; name one with --config FILE"
    )


def load_settings(file: Path) -> Settings:
    """The checked settings of a file, the environment and the credentials. Raises SettingsError."""
    try:
        settings = Settings.model_validate(dict(_MergedSettings(**_read_toml(file))))
    except UnreadableSource as error:
        # A whole table is set to text that is not JSON, as in LINE_MONITOR__LINE=line1.
        raise SettingsError(
            f"environment variables LINE_MONITOR__...: {error}; "
            "set single keys, as in LINE_MONITOR__LINE__NAME=line1"
        ) from None
    except ValidationError as error:
        raise SettingsError("\n".join(f"{file}: {line}" for line in _explain(error))) from None
    if not settings.line.data.is_absolute():
        data = (file.resolve().parent / settings.line.data).resolve()
        settings = settings.model_copy(update={"line": settings.line.model_copy(update={"data": data})})
    return settings


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{file}: no such file; name one with --config FILE") from None
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; name a readable file with --config FILE") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{file}: not UTF-8 text; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: not valid TOML: {error}; correct that line") from None


_PLAIN_WORDS = {
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "missing": "the key is missing; add it",
    "model_type": "must be a table",
    "path_type": "must be a path in quotes",
    "string_pattern_mismatch": "this text is not allowed",
    "string_type": "must be text in quotes",
    "too_long": "the list has too many values",
    "tuple_type": "must be a list",
}
"""Messages for errors that pydantic describes in Python's words."""


def _explain(error: ValidationError) -> list[str]:
    """One line for each problem: the key's path, what is wrong, and the values that are allowed."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        kind, path = problem["type"], problem["loc"]
        if kind == "default_factory_not_called":
            # The default needs another key's value; that value is wrong and has a line of its own.
            continue
        if kind == "extra_forbidden":
            message = "unknown key" + _suggestion(path)
        elif kind == "value_error":
            message = problem["msg"].removeprefix("Value error, ")
        else:
            message = _PLAIN_WORDS.get(kind) or problem["msg"].replace("Input should", "the value must")
            if allowed := _allowed(path):
                message += f"; allowed: {allowed}"
        lines.append(f"{'.'.join(map(str, path))}: {message[0].lower() + message[1:]}")
    return lines


def _allowed(path: tuple[int | str, ...]) -> str:
    keys = [key for key in path if isinstance(key, str)]
    if keys == ["camera"]:
        return "[[camera]] in double brackets, once for each camera"
    field = tables()[keys[0]].model_fields.get(keys[1]) if len(keys) > 1 else None
    return unit_and_bounds(field) if field else ""


def _suggestion(path: tuple[int | str, ...]) -> str:
    """The known key with the most similar spelling, or all known keys of the table."""
    table = tables().get(str(path[0])) if len(path) > 1 else None
    known = list((table or Settings).model_fields)
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}"
