"""What the files of a run that people can read are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]


class Facts(BaseModel):
    """Named values that cannot be changed, and none that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
