from typing import Any

from pipeline.core.engine.trials import rounded, trial_of


def test_a_drawn_fraction_is_rounded_where_the_setting_is_a_whole_number(lab: Any) -> None:
    params = {"method.width": 23.7, "engine.batch_size": 16.0, "method.dropout": 0.1, "method.scaling": "learned"}
    assert rounded(lab.job.settings, params) == params | {"method.width": 24, "engine.batch_size": 16}
    trial = trial_of(lab.job, 0, params)
    assert (trial.settings.method.width, trial.params["method.width"]) == (24, 24)
