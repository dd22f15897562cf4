"""A search with `adapters` + AdapterTrainer + Optuna: see optuna_search.py."""

from __future__ import annotations

from adapters_trainer import train
from optuna_search import main

if __name__ == "__main__":
    main(train)
