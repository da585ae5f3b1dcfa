"""The service that tutorials write: FastAPI, lists checked by pydantic, and Keras' ``model.predict``."""

import os
from pathlib import Path

import keras
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.predict.networks import SMALL, TUTORIAL_FOLDER, WIDE


class Rows(BaseModel):
    """What a client sends."""

    instances: list[list[float]]


class Answers(BaseModel):
    """What it gets."""

    predictions: list[list[float]]


def create_app() -> FastAPI:
    """Load the models and return the application."""
    app = FastAPI()
    networks = {network.name: network for network in (SMALL, WIDE)}
    folder = Path(os.environ[TUTORIAL_FOLDER])
    loaded = {name: keras.models.load_model(folder / f"{network.file}.keras") for name, network in networks.items()}

    @app.post("/predict/{name}")
    def predict(name: str, rows: Rows) -> Answers:
        inputs, outputs = networks[name].inputs, networks[name].outputs
        standardized = (np.array(rows.instances) - inputs.mean) / inputs.scale
        answers = loaded[name].predict(standardized, verbose=0)
        return Answers(predictions=(answers * outputs.scale + outputs.mean).tolist())

    return app
