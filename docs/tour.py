# %% [markdown]
# # A tour of harness
#
# From a published table to an experiment, a strategy and a sweep of your own, in Python. Run it as a script from a
# checkout (`python docs/tour.py`, about a minute), or open it as a notebook: editors know the `# %%` cells, and
# `jupytext --to notebook docs/tour.py` converts it. The same things on the command line: docs/tutorials/.

# %%
import json
import sys
import tempfile
from pathlib import Path

import harness

# %% [markdown]
# ## Published results
#
# An experiment is a set of arms (rows) trained on the same seeds. Its table is computed from the records of its trials,
# and nothing is trained here.

# %%
published = harness.table("text_strategies", metrics=["target_macro_f1", "source_macro_f1", "forgetting"])
print(published)

# %% [markdown]
# A cell knows the mean over its seeds, the interval, and how it compares with the baseline, seed by seed.

# %%
cell = published.cell("residual_add_depth", "forgetting")
assert cell.value is not None and cell.interval is not None and cell.comparison is not None
interval = f"{cell.interval.low:.1f} to {cell.interval.high:.1f}"
print(f"forgetting with stochastic depth: {cell.value:.1f} points over {cell.num_seeds} seeds (95 %: {interval})")
print(f"p against {cell.comparison.baseline}, corrected over the table: {cell.comparison.p_adjusted:.4f}")

# %% [markdown]
# The records themselves are a data frame with one row for each trial. Numbers are as recorded: fractions, not percent.

# %%
records = harness.load_records("text_strategies")
print(records.groupby("arm", sort=False)[["target_macro_f1", "forgetting"]].agg(["mean", "std"]).round(3))

# %% [markdown]
# Everybody can check a published table: each cell is recomputed from its records.

# %%
print("what does not follow from the records:", harness.verify("text_strategies").findings.drifts)

# %% [markdown]
# ## Data of your own
#
# One row an example. The shipped backbone `text_small` was trained on movie reviews; we make a few more of those (its
# source), and telephone calls, to which it is to be adapted (the target).

# %%
folder = Path(tempfile.mkdtemp())
words = {
    "negative": ["awful", "dull", "broken", "rude", "slow"],
    "neutral": ["usual", "plain", "short", "average", "quiet"],
    "positive": ["lovely", "superb", "bright", "kind", "quick"],
}
lines = ["domain,text,label,split"]
for number in range(60):
    split = "train" if number < 30 else "valid" if number < 40 else "test"
    for label, choices in words.items():
        one, other = choices[number % 5], choices[number * 3 % 5]
        lines.append(f"movie,the film of scene {number} was {one} and its end {other},{label},{split}")
        lines.append(f"call,agent {number} sounded {one} to me and {other} at the end,{label},{split}")
(folder / "calls.csv").write_text("\n".join(lines))

# %% [markdown]
# ## An experiment
#
# `base` is what all arms share; an arm says only what differs.

# %%
strategy = "harness.adapters.ResidualAddAdapterStrategy"
experiment = {
    "name": "calls",
    "description": "Sentiment of calls, from movie reviews",
    "base": {
        "data": {"corpus": f"manifest:{folder / 'calls.csv'}", "source": ["movie"], "target": "call"},
        "backbone": {"recipe": "text_small", "layers": {"from": 2}},
        "train": "adapters",
        "adapter": {"_target_": "harness.adapters.LinearAdapter", "dim": 8, "adapter_strategy": {"_target_": strategy}},
        "optim": {"lr": 5e-3},
        "loop": {"epochs": 5, "batch_size": 8},
    },
    "arms": {
        "frozen": {"train": "none", "adapter": None},
        "residual_add": {},
        "residual_add_depth": {"adapter": {"adapter_strategy": {"stochastic_depth": 0.5}}},
    },
    "seeds": [0, 1],
    "table": {"baseline": "frozen", "metrics": ["target_macro_f1", "source_macro_f1", "forgetting"]},
}
done = harness.run(experiment, results=folder / "results", tell=print)
print(done.table())

# %% [markdown]
# Running it again trains nothing. A mistake is one line that names the place and the choices.

# %%
again = harness.run(experiment, results=folder / "results")
print(again.num_trained, "trained,", again.num_reused, "reused")
try:
    harness.run(experiment, {"loop.epoch": 3}, results=folder / "results")
except harness.UserError as error:
    print(error)

# %% [markdown]
# ## A strategy of your own
#
# A strategy says how an adapter's output is merged with its input. Put it into a file that Python finds (the current
# folder will do) and name it by `_target_`.

# %%
sys.path.append(str(folder))
(folder / "tour_strategies.py").write_text('''
from harness.adapters import AbstractAdapterStrategy


class Scaled(AbstractAdapterStrategy):
    """Add the adapter's output, scaled."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def forward(self, input, adapter, *, module):
        return input + self.scale * adapter(input)
''')
half = {"adapter": {"adapter_strategy": {"_target_": "tour_strategies.Scaled", "scale": 0.5}}}
base = experiment["base"] | {"adapter": {"_target_": "harness.adapters.LinearAdapter", "dim": 8}}  # type: ignore[operator]
scaled = experiment | {"name": "calls_scaled", "base": base, "arms": {"residual_add": {}, "half": half}}
scaled["table"] = {"baseline": "residual_add", "metrics": ["target_macro_f1", "forgetting"]}
print(harness.run(scaled, results=folder / "results").table())

# %% [markdown]
# ## A sweep
#
# Which arm is best when each is tuned as well as the others? The search sees validation data only; the winners are
# written down, and trained again on fresh seeds, which the table shows.

# %%
(folder / "calls.yaml").write_text(json.dumps(experiment))  # JSON is YAML
sweep = {
    "name": "calls_tuned",
    "experiment": str(folder / "calls.yaml"),
    "arms": ["frozen", "residual_add_depth"],
    "space": {
        "optim.lr": {"type": "log_float", "low": 1e-3, "high": 1e-2},
        "adapter.adapter_strategy.stochastic_depth": {"type": "float", "low": 0.0, "high": 0.9},
    },
    "objectives": [{"metric": "valid_target/macro_f1"}],
    "budget": {"trials": 3},
    "confirm": {"seeds": [0, 1]},
    "table": {"baseline": "frozen", "metrics": ["target_macro_f1", "forgetting"]},
}
tuned = harness.run_sweep(sweep, results=folder / "results", engine="plain")
print(tuned.winners)
print(tuned.table())

# %% [markdown]
# ## For the paper
#
# One model, many formats, the same digits.

# %%
print(tuned.table().render("tex"))

# %% [markdown]
# Next: docs/tutorials/ takes each of these steps slowly; docs/README.md lists everything else.
