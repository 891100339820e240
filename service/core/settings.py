"""Settings, read once by an entry point and handed on as values. Prefix ZOOSCOUT_, nested by __."""

from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.core.budget import BudgetText

PrecisionChoice = Literal["auto", "float32", "bfloat16"]
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseSettings(_Group):
    url: str | None = Field(default=None, description="SQLAlchemy URL; SQLite in the data directory if unset")
    busy_timeout_ms: PositiveInt = Field(default=15_000, description="SQLite: how long a writer waits for another")
    pool_size: PositiveInt = Field(
        default=40, description="connections of a process, and threads that answer: one each"
    )
    statement_timeout_ms: PositiveInt = Field(
        default=30_000, description="PostgreSQL: of a statement, and of rest within a transaction; migrations have more"
    )


class UploadSettings(_Group):
    """Caps on what is taken in: see `service.datasets.limits` for what each bounds."""

    max_upload_bytes: PositiveInt = Field(default=20 * 2**30, description="of an archive as it is sent")
    max_entries: PositiveInt = Field(default=2_000_000, description="files in an archive, whatever they are")
    max_unpacked_bytes: PositiveInt = Field(default=100 * 2**30, description="of all that an archive unpacks to")
    max_ratio: PositiveFloat = Field(
        default=200.0, description="unpacked over packed, where more than ratio_floor_bytes are unpacked"
    )
    ratio_floor_bytes: PositiveInt = Field(
        default=64 * 2**20, description="up to which an archive may unpack at any ratio"
    )
    max_image_bytes: PositiveInt = Field(
        default=256 * 2**20, description="of one image file; a larger one is reported and left out"
    )
    max_image_pixels: Annotated[int, Field(gt=0, le=178_956_970)] = Field(
        default=120_000_000, description="of one image, before anything of it is decoded"
    )


class ScoringSettings(_Group):
    max_array_bytes: PositiveInt = Field(
        default=8 * 2**30, description="of features that a user brings to be scored, unpacked"
    )


class ServerSettings(_Group):
    host: str = Field(default="127.0.0.1", description="to listen on; any other than this machine needs API keys")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(default=8750, description="0 takes a free one")
    require_key: bool = Field(default=False, description="ask for an API key even on 127.0.0.1")
    keep_answers_seconds: PositiveFloat = Field(
        default=24 * 3600.0, description="how long a POST with an Idempotency-Key is answered with its first answer"
    )

    requests_per_minute: PositiveInt | None = Field(
        default=None, description="of one key, counted by each API process for itself; unset: no limit"
    )
    max_body_bytes: PositiveInt = Field(default=8 * 2**20, description="of requests that are no uploads")
    receive_seconds: PositiveFloat = Field(
        default=60.0, description="for a request's body to come, and what it needs at min_bytes_per_second besides"
    )
    min_bytes_per_second: PositiveInt = Field(
        default=16 * 2**10, description="of a body, once receive_seconds are over"
    )

    @property
    def needs_key(self) -> bool:
        return self.require_key or self.host not in LOOPBACK


class QuotaSettings(_Group):
    """Of each project; unset: no limit."""

    stored_bytes: PositiveInt | None = Field(default=None, description="of the uploads that its datasets came as")
    images: PositiveInt | None = Field(default=None, description="in those uploads")
    queued_tasks: PositiveInt | None = Field(default=None, description="waiting or at work")


class WorkerSettings(_Group):
    lease_seconds: PositiveFloat = Field(
        default=60.0, description="that a task stays with a worker that says nothing; renewed while it works"
    )
    poll_seconds: PositiveFloat = Field(default=0.1, description="between two looks of an idle worker for work")
    max_attempts: PositiveInt = Field(default=3, description="of a task; three times as many where nobody was to blame")
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N")
    batch_size: NonNegativeInt = Field(default=0, description="0: measured on a GPU, four on a CPU")
    decode_threads: NonNegativeInt = Field(default=0, description="0: one a core; on a CPU they compute as well")
    precision: PrecisionChoice = Field(
        default="auto", description="of models not yet used in a project; auto: bfloat16 where a probe finds no harm"
    )
    pixel_bytes: PositiveInt = Field(default=256 * 2**20, description="of decoded images waiting for a forward pass")
    feature_bytes: PositiveInt = Field(default=512 * 2**20, description="of features waiting to be written")
    warm_model_bytes: PositiveInt = Field(default=2 * 2**30, description="of weights kept loaded between tasks")
    models_per_task: PositiveInt = Field(
        default=8, description="that share each decoded image; fewer where workers would have none"
    )
    images_per_task: PositiveInt = Field(
        default=20_000, description="of a ranking; a larger dataset is dealt into shards, which workers share"
    )
    task_seconds: PositiveFloat = Field(
        default=1800.0, description="that any task may take; what a model is measured to need, ten times, is added"
    )
    ingest_memory_bytes: PositiveInt = Field(
        default=4 * 2**30, description="of the process that reads archives and images which users send"
    )


class ExecutorSettings(_Group):
    kind: str = Field(default="local", description="local: a process a device; ray: a cluster; or a package's own")
    address: str = Field(default="auto", description="ray: of an existing cluster; auto: the one on this machine")
    num_cpus: PositiveFloat = Field(default=1.0, description="ray: cores of a task")
    num_gpus: NonNegativeFloat = Field(default=0.0, description="ray: GPUs of a task, or a fraction of one")
    memory_bytes: PositiveInt | None = Field(default=None, description="ray: memory that a task asks for")
    max_tasks: PositiveInt = Field(default=64, description="ray: at once, where the cluster has room for them")


class StoreSettings(_Group):
    url: str | None = Field(
        default=None,
        description="where segments lie: s3://bucket/prefix or any fsspec URL; unset: the data directory",
    )
    cache_bytes: PositiveInt = Field(default=20 * 2**30, description="of what was read from a URL, kept on this disk")
    storage: Literal["float32", "float16"] = Field(default="float32", description="of the numbers of new segments")
    segment_rows: PositiveInt = Field(
        default=16_384, description="of a file of embeddings; what a killed worker loses at most"
    )
    grace_seconds: PositiveFloat = Field(
        default=24 * 3600.0,
        description="before a file that nothing needs is removed; longer than a lease and a backup's copying",
    )


class WebhookSettings(_Group):
    allow_private_addresses: bool = Field(
        default=False, description="also send to private, loopback and link-local addresses"
    )
    timeout_seconds: PositiveFloat = Field(default=15.0, description="for a receiver to answer")
    disable_after_seconds: PositiveFloat = Field(
        default=5 * 24 * 3600.0, description="of failure without a success, once a delivery is given up"
    )
    keep_seconds: PositiveFloat = Field(default=30 * 24 * 3600.0, description="how long ended deliveries are shown")


class RetentionSettings(_Group):
    """What a worker removes by itself, and how often it looks."""

    upkeep_seconds: PositiveFloat = Field(
        default=6 * 3600.0, description="from one round to the next: a collection of each project, and what is below"
    )
    rankings_seconds: PositiveFloat | None = Field(
        default=None, description="how long ended rankings are kept; their scores stay. Unset: for ever"
    )
    tasks_seconds: PositiveFloat = Field(
        default=30 * 24 * 3600.0, description="how long ended imports, uploads and collections are shown as tasks"
    )


class TracingSettings(_Group):
    endpoint: str | None = Field(
        default=None,
        description="where traces go by OTLP over HTTP, such as http://collector:4318; OTEL_EXPORTER_OTLP_ENDPOINT too",
    )


class PrescoreSettings(_Group):
    every_hours: PositiveFloat | None = Field(
        default=None, description="how often workers ask for a prescore of what is new; unset: never"
    )
    budget: BudgetText | None = Field(default=None, description="of each of these prescores; see docs/prescore.md")


class InstantSettings(_Group):
    """Of the answer that a new dataset gets before any candidate has run."""

    reference_model: str | None = Field(
        default=None, description="which model looks at it; the smallest whose weights have been here if unset"
    )
    images: Annotated[int, Field(ge=20, le=500)] = Field(default=300, description="that it looks at")


class HealthSettings(_Group):
    """From where on `zooscout doctor` and /readyz call something a problem."""

    min_free_bytes: PositiveInt = Field(default=2 * 2**30, description="of the data directory's disk")
    max_clock_skew_seconds: PositiveFloat = Field(default=5.0, description="between this machine and the database")
    max_waiting_tasks: PositiveInt = Field(default=10_000, description="that are due and that no worker has taken")
    max_waiting_seconds: PositiveFloat = Field(default=3600.0, description="that a task may be due and not taken")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="ZOOSCOUT_", env_nested_delimiter="__", frozen=True, extra="ignore", env_ignore_empty=True
    )

    data_dir: Path = Field(
        default_factory=lambda: user_data_path("zooscout", appauthor=False),
        description="everything that is stored on this machine; the user's data directory if unset",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="and what is graver")
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: for people on a terminal, JSON elsewhere"
    )
    database: DatabaseSettings = DatabaseSettings()
    uploads: UploadSettings = UploadSettings()
    scoring: ScoringSettings = ScoringSettings()
    server: ServerSettings = ServerSettings()
    quotas: QuotaSettings = QuotaSettings()
    worker: WorkerSettings = WorkerSettings()
    executor: ExecutorSettings = ExecutorSettings()
    store: StoreSettings = StoreSettings()
    webhooks: WebhookSettings = WebhookSettings()
    prescore: PrescoreSettings = PrescoreSettings()
    instant: InstantSettings = InstantSettings()
    retention: RetentionSettings = RetentionSettings()
    tracing: TracingSettings = TracingSettings()
    health: HealthSettings = HealthSettings()

    @property
    def database_url(self) -> str:
        if self.database.url is None:
            return f"sqlite:///{self.data_dir.absolute() / 'zooscout.sqlite'}"
        scheme, sep, rest = self.database.url.partition("://")
        return f"postgresql+psycopg{sep}{rest}" if scheme in {"postgres", "postgresql"} else self.database.url

    @property
    def blob_root(self) -> Path:
        return self.data_dir / "blobs"

    @property
    def segment_root(self) -> Path:
        return self.data_dir / "segments"

    @property
    def cache_root(self) -> Path:
        """What can be deleted at any time: it is fetched or made again."""
        return self.data_dir / "cache"

    @property
    def upload_root(self) -> Path:
        return self.data_dir / "uploads"

    @property
    def moments_root(self) -> Path:
        """What shards leave until they are scored; made again where it is gone."""
        return self.data_dir / "moments"

    @property
    def thumbnail_root(self) -> Path:
        return self.data_dir / "thumbnails"

    @property
    def manifest_root(self) -> Path:
        return self.data_dir / "manifests"

    @property
    def weights_cache(self) -> Path:
        return self.data_dir / "weights"
