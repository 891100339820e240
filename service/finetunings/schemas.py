"""What the endpoints of fine-tuning take and give."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.core.text import RequestBody

MAX_MODELS = 100
MAX_BUDGET_SECONDS = 30 * 86_400.0
Name = Annotated[str, Field(min_length=1, max_length=300)]
RecipeName = Literal["fast", "default"]


class FinetuningCreate(RequestBody):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"dataset": "flowers", "models": ["resnet18.a1_in1k"], "recipe": "fast", "budget_seconds": 900}
            ]
        },
    )

    dataset: Name = Field(description="id or name of a sealed dataset of images")
    models: Annotated[list[Name], Field(min_length=1, max_length=MAX_MODELS)] = Field(description="ids or names")
    recipe: RecipeName = Field(
        "default",
        description="fast: one learning rate, 3 epochs, 1000 images; default: two, 6 epochs, 5000 images",
    )
    budget_seconds: Annotated[float, Field(ge=1, le=MAX_BUDGET_SECONDS, allow_inf_nan=False)] | None = Field(
        None, description="for all models, from when a worker begins; what is unfinished then is not measured"
    )


class FinetuningResult(BaseModel):
    """Of one model; either `accuracy` or `error` is there."""

    model: str
    accuracy: float | None = None
    interval: list[float] | None = Field(None, description="90 % Wilson interval")
    probe: float | None = Field(None, description="accuracy of a ridge head alone, on all training images")
    learning_rate: float | None = None
    epoch: int | None = Field(None, description="0 is the ridge head, before any training")
    seconds: float | None = None
    outcome_id: str | None = None
    measured_before: bool = Field(False, description="the same recipe measured the same weights earlier")
    error: str | None = None


class FinetuningPlan(BaseModel):
    """What is trained on and how."""

    recipe: dict[str, Any]
    train: int = Field(description="images")
    test: int = Field(description="images")
    tested_on: str
    sampled: bool = Field(description="the dataset has more images than were used")


class FinetuningProgress(BaseModel):
    stage: str | None = Field(None, description="`reading images`, then the model that is trained")
    done: int = Field(0, description="images read, or epochs trained")
    total: int = 0


class FinetuningView(BaseModel):
    id: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    dataset: str
    dataset_id: str
    models: list[str]
    recipe: RecipeName
    budget_seconds: float | None
    plan: FinetuningPlan | None = Field(description="null before a worker has read the images")
    progress: FinetuningProgress
    results: list[FinetuningResult] = Field(description="of the models that are through; at the end the best first")
    error: dict[str, Any] | None
