"""What the outcomes' endpoints take and give."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from service.core.text import RequestBody

MAX_TEST_IMAGES = 2**31 - 1
Name = Annotated[str, Field(min_length=1, max_length=300)]


class OutcomeCreate(RequestBody):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "dataset": "flowers",
                    "model": "resnet18.a1_in1k",
                    "accuracy": 0.913,
                    "n_test": 400,
                    "recipe": "AdamW 20 epochs 224 px",
                    "source": "nightly training 2026-11-20",
                }
            ]
        },
    )

    dataset: Name = Field(description="id or name of a dataset of the project; or any other name, for one it has not")
    model: Name = Field(description="id or name of a model of the project; or any other name")
    accuracy: float = Field(description="on test images, as a share: 0.913, not 91.3", allow_inf_nan=False)
    n_test: Annotated[int, Field(ge=1, le=MAX_TEST_IMAGES)] | None = Field(
        None, description="on how many images it was measured"
    )
    recipe: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        "unknown", description="how it was fine-tuned: accuracies of different recipes are different outcomes"
    )
    source: Annotated[str, Field(min_length=1, max_length=500)] = Field("unknown", description="who says so")

    @field_validator("accuracy", "n_test", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("must be a number")
        return value

    @field_validator("accuracy")
    @classmethod
    def _share(cls, value: float) -> float:
        if not 0 <= value <= 1:
            hint = f"; a percentage is divided by 100: {value / 100:g}" if 1 < value <= 100 else ""
            raise ValueError(f"an accuracy is a share between 0 and 1, not {value:g}{hint}")
        return value

    @field_validator("dataset", "model", "recipe", "source")
    @classmethod
    def _trimmed(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be blank")
        return value.strip()


class OutcomeView(BaseModel):
    id: str
    dataset: str
    dataset_id: str | None = Field(description="null: the project has no such dataset")
    fingerprint: str | None
    model: str
    model_id: str | None = Field(description="null: the project has no such model")
    weights_sha256: str | None
    extractor_id: str | None
    accuracy: float
    n_test: int | None
    interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        description="90 % Wilson interval: what so few test images leave open, and nothing of seeds and recipes"
    )
    recipe: str
    source: str
    version: int = Field(description="counts from 1; the highest of a dataset, model and recipe is the one that holds")
    created_at: datetime


class OutcomePage(BaseModel):
    items: list[OutcomeView]
    next_cursor: str | None


class OutcomesAdded(BaseModel):
    added: int = Field(description="of these, `superseded` took the place of an earlier version")
    superseded: int
    unchanged: int = Field(description="said just what the latest version says: nothing was added")
    unknown_datasets: list[str] = Field(description="names of no dataset of the project, the first 20")
    unknown_models: list[str] = Field(description="names of no model of the project, the first 20")
    items: list[OutcomeView] = Field(description="as they now hold, the first 100")
