"""One line's settings: a TOML file, the environment and systemd credentials, checked as one tree.

Unknown keys are refused with their path. Nothing here touches a camera, a broker or a recipe: whether the
things that the settings name exist is `check`'s business.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnreadableSource

CONFIG_VARIABLE = "LINE_MONITOR_CONFIG"
DEFAULT_PLACES = (Path("config/line.toml"), Path("/etc/line-monitor/line.toml"))

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")]
Port = Annotated[int, Field(ge=0, le=65535)]


class SettingsError(Exception):
    """The settings can't be used; the message is one line a problem, each naming the key and the fix."""


class Mode(StrEnum):
    EVERY_PART = "every-part"
    LATEST = "latest"


class OnUninspected(StrEnum):
    REJECT = "reject"
    PASS = "pass"
    STOP = "stop"


class PublishVerdicts(StrEnum):
    EVERY_PART = "every-part"
    ALL = "all"
    NONE = "none"


class RuntimeName(StrEnum):
    AUTO = "auto"
    TORCH = "torch"
    OPENVINO = "openvino"


class Precision(StrEnum):
    AUTO = "auto"
    F32 = "f32"
    F16 = "f16"
    INT8 = "int8"


class JournalVerdicts(StrEnum):
    PROBLEMS = "problems"
    ALL = "all"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LineSettings(_Table):
    """Who this line is and where its data lies."""

    site: Name = "plant1"
    name: Name = "line1"
    data: Path = Field(
        default=Path("/var/lib/line-monitor"),
        description="recipes/, snapshots/ and journal.sqlite; a relative path starts at the settings file",
    )


class CameraSettings(_Table):
    """One camera and what its verdicts must achieve."""

    name: Name
    source: str = Field(description="the scheme picks the driver: rtsp gige file folder simulated")
    recipe: Name
    mode: Mode = Mode.EVERY_PART
    deadline_ms: int = Field(default=250, ge=10, le=600_000, description="capture to published verdict")
    actuate_ms: int = Field(
        default_factory=lambda given: given.get("deadline_ms", 0) + 500,
        ge=0,
        le=3_600_000,
        description="the gate's last moment; default deadline_ms + 500",
    )
    on_uninspected: OnUninspected = OnUninspected.REJECT
    roi: tuple[int, int, int, int] | None = Field(default=None, description="x, y, width, height in pixels")
    stop_after_rejects: int = Field(
        default=0, ge=0, le=10_000, description="so many rejects in a row ask for a stop; 0: none do"
    )
    stop_reject_rate: float = Field(
        default=0.0, ge=0, lt=1, description="a larger share of rejects asks for a stop; 0: none does"
    )
    stop_reject_window: int = Field(
        default=100, ge=2, le=10_000, description="judged parts that stop_reject_rate is a share of"
    )

    @model_validator(mode="after")
    def _consistent(self) -> CameraSettings:
        if self.actuate_ms <= self.deadline_ms:
            raise ValueError(
                f"actuate_ms ({self.actuate_ms}) must be larger than deadline_ms ({self.deadline_ms}): "
                "the gate needs time after the verdict"
            )
        if self.roi is not None:
            x, y, width, height = self.roi
            if x < 0 or y < 0 or width < 1 or height < 1:
                raise ValueError("roi is [x, y, width, height] with x, y from 0 and width, height from 1")
        if self.mode is Mode.LATEST and (self.stop_after_rejects or self.stop_reject_rate):
            raise ValueError(
                'mode "latest" never stops the line: leave stop_after_rejects and stop_reject_rate out, '
                'or set mode = "every-part"'
            )
        if "://" not in self.source:
            raise ValueError(
                "source has no scheme: it begins with rtsp:// gige:// file:// folder:// or simulated://"
            )
        return self


class ScoringSettings(_Table):
    """How recipes run on this machine."""

    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    runtime: RuntimeName = RuntimeName.AUTO
    precision: Precision = Precision.AUTO


class MqttSettings(_Table):
    """The broker between this line and its gateway."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    protocol: Annotated[int, Field(ge=4, le=5)] = 5
    keepalive_s: Annotated[int, Field(ge=1, le=60)] = 3
    publish_verdicts: PublishVerdicts = PublishVerdicts.EVERY_PART
    ack_timeout_ms: Annotated[int, Field(ge=0, le=600_000)] = 0

    @model_validator(mode="after")
    def _consistent(self) -> MqttSettings:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together: set both or neither")
        return self


class SnapshotSettings(_Table):
    """What is kept for the operators, and how much of it."""

    keep_days: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30
    max_gb: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 50.0
    min_free_gb: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    pass_every: Annotated[int, Field(ge=0)] = 0


class JournalSettings(_Table):
    """What the journal notes, and how long it is kept."""

    verdicts: JournalVerdicts = JournalVerdicts.PROBLEMS
    keep_days: Annotated[float, Field(gt=0, le=36_500)] = 365
    max_gb: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0


class MetricsSettings(_Table):
    port: Port = 9108


class ReviewSettings(_Table):
    """The operators' page. Bound to more than this machine it needs a password."""

    host: str = "127.0.0.1"
    port: Port = 8080
    password_hash: SecretStr | None = Field(
        default=None, description="made by `line-monitor review --hash-password`"
    )


class Settings(_Table):
    """The whole tree, a plain model: `load` makes it, and a worker validates the JSON from its supervisor."""

    line: LineSettings = LineSettings()
    camera: tuple[CameraSettings, ...] = ()
    scoring: ScoringSettings = ScoringSettings()
    mqtt: MqttSettings = MqttSettings()
    snapshots: SnapshotSettings = SnapshotSettings()
    journal: JournalSettings = JournalSettings()
    metrics: MetricsSettings = MetricsSettings()
    review: ReviewSettings = ReviewSettings()

    @model_validator(mode="after")
    def _unique_cameras(self) -> Settings:
        names = [camera.name for camera in self.camera]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two cameras are called {name!r}: each needs a name of its own")
        return self

    @property
    def prefix(self) -> str:
        """What every MQTT topic of this line starts with."""
        return f"{self.line.site}/{self.line.name}"

    def camera_named(self, name: str) -> CameraSettings:
        """Raises SettingsError when there is none of that name."""
        for camera in self.camera:
            if camera.name == name:
                return camera
        known = ", ".join(camera.name for camera in self.camera) or "none"
        raise SettingsError(f"no camera called {name!r} in the settings; there are: {known}")


class _MergedSettings(Settings, BaseSettings):
    """The settings merged from the file (the arguments), the environment and the credentials; only for `load`."""

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
        """The environment overrides the credentials, and these override the file."""
        return env_settings, _Credentials(settings_cls), init_settings


_CREDENTIALS = {"mqtt_password": ("mqtt", "password"), "review_password": ("review", "password_hash")}


class _Credentials(InitSettingsSource):
    """Secrets that systemd hands over as files (systemd.exec(5), LoadCredential=)."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        found: dict[str, Any] = {}
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder:
            for credential, (table, key) in _CREDENTIALS.items():
                # Empty stands for none: so the unit can name a file that need not be there.
                if secret := _secret(Path(folder) / credential):
                    found[table] = {key: secret}
        super().__init__(settings_cls, init_kwargs=found)


def _secret(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError(f"credential {file}: {why}; give it to the user that runs this") from None


def find(config: Path | None) -> Path:
    """The settings file: `--config`, else $LINE_MONITOR_CONFIG, else the default places."""
    if config is not None:
        return config
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    closed = []
    for place in DEFAULT_PLACES:
        try:
            if place.is_file():
                return place
        except PermissionError:
            closed.append(place)
    if closed:
        raise SettingsError(
            f"{closed[-1]}: this user may not look there; use sudo -u line-monitor, "
            "or name a file with --config FILE"
        )
    raise SettingsError(
        f"no settings file: looked for {' and '.join(map(str, DEFAULT_PLACES))}; name one with --config FILE"
    )


def load(file: Path) -> Settings:
    """Reads and checks the settings. Raises SettingsError."""
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{file}: no such file; name one with --config FILE") from None
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{file}: not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: not valid TOML: {error}") from None
    try:
        settings = Settings.model_validate(dict(_MergedSettings(**tree)))
    except UnreadableSource as error:
        # A table set to what is not JSON, as in LINE_MONITOR__LINE=line1.
        raise SettingsError(f"LINE_MONITOR__... in the environment: {error}; set single keys") from None
    except ValidationError as error:
        raise SettingsError("\n".join(f"{file}: {line}" for line in _explain(error))) from None
    if not settings.line.data.is_absolute():
        data = (file.resolve().parent / settings.line.data).resolve()
        settings = settings.model_copy(update={"line": settings.line.model_copy(update={"data": data})})
    return settings


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        if problem["type"] == "default_factory_not_called":
            # A default that waits for a value which is wrong itself, and is named by its own line.
            continue
        path = ".".join(str(part) for part in problem["loc"]) or "settings"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key" + _suggestion(problem["loc"])
        lines.append(f"{path}: {message[0].lower() + message[1:]}")
    return lines


def _suggestion(path: tuple[int | str, ...]) -> str:
    """`; did you mean ...?` when a known key of the same table is spelled alike, else the table's keys."""
    tables: dict[str, type[BaseModel]] = {
        "line": LineSettings,
        "camera": CameraSettings,
        "scoring": ScoringSettings,
        "mqtt": MqttSettings,
        "snapshots": SnapshotSettings,
        "journal": JournalSettings,
        "metrics": MetricsSettings,
        "review": ReviewSettings,
    }
    table = tables.get(str(path[0])) if len(path) > 1 else None
    known = list(table.model_fields) if table else list(Settings.model_fields)
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}"
