from typing import Any

import pytest

from inpaintrt_server.apis.webui.checkpoint import Checkpoint
from inpaintrt_server.apis.webui.overrides import Overrides, read_overrides, settings_of
from inpaintrt_server.http.refusals import FieldError

CHECKPOINT = Checkpoint("mine", "0123456789abcdef" * 4, (512, 512))


@pytest.mark.parametrize(
    ("settings", "read"),
    [
        ({}, Overrides()),
        ({"CLIP_stop_at_last_layers": 2}, Overrides(clip_skip=1)),
        ({"CLIP_stop_at_last_layers": 1}, Overrides()),
        ({"samples_format": "jpg"}, Overrides(image_format="jpeg")),
        ({"samples_format": None}, Overrides()),
        ({"emphasis": "None"}, Overrides(weights=False)),
        ({"sd_model_checkpoint": "mine"}, Overrides()),
        ({"sd_model_checkpoint": "mine [0123456789]"}, Overrides()),
        ({"sd_model_checkpoint": "0123456789"}, Overrides()),
        ({"sd_vae": "Automatic", "eta_noise_seed_delta": 0}, Overrides()),
    ],
)
def test_settings_that_can_be_had(settings: dict[str, Any], read: Overrides) -> None:
    assert read_overrides(settings, CHECKPOINT) == read


def test_what_options_tell_changes_nothing_when_sent_back() -> None:
    assert read_overrides(settings_of(CHECKPOINT), CHECKPOINT) == Overrides()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"sd_model_checkpoint": "other"}, "override_settings.sd_model_checkpoint"),
        ({"eta_noise_seed_delta": 31337}, "override_settings.eta_noise_seed_delta"),
        ({"CLIP_stop_at_last_layers": 0}, "override_settings.CLIP_stop_at_last_layers"),
        ({"CLIP_stop_at_last_layers": [2]}, "override_settings.CLIP_stop_at_last_layers"),
        ({"randn_source": "NV"}, "override_settings.randn_source"),
        ({"token_merging_ratio": 0.5}, "override_settings.token_merging_ratio"),
    ],
)
def test_other_settings_are_refused_by_name(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(FieldError) as caught:
        read_overrides(settings, CHECKPOINT)
    assert caught.value.field == field
