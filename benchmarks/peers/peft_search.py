"""A search with PEFT + Trainer + Optuna: see optuna_search.py."""

from __future__ import annotations

from optuna_search import main
from peft_trainer import train

if __name__ == "__main__":
    main(train)
