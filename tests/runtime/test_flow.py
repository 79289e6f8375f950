"""One request, stage by stage, as a server runs it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inpaintrt import InpaintPipeline
from inpaintrt.denoiser import Slots
from inpaintrt.errors import EngineRunError, ParameterError
from inpaintrt.families import SD
from inpaintrt.flow import Batch, Flow, MicroBatches, Stage
from inpaintrt.request import Options, Request, make_request
from runtime.image_tools import disc_mask, gradient, largest_difference

SIDE = 64
OPTIONS: Options = {"num_inference_steps": 3, "seed": 0, "scheduler": "ddim"}


@pytest.fixture(scope="module")
def pipe() -> Iterator[InpaintPipeline]:
    with InpaintPipeline.from_bundle("demo") as pipe:
        yield pipe


def _request(options: Options = OPTIONS, mask: Image.Image | None = None) -> Request:
    return make_request("a red balloon", gradient(SIDE, SIDE), mask or disc_mask(SIDE, SIDE), options, SD)


def _prepared(pipe: InpaintPipeline, request: Request) -> Flow:
    flow = Flow(pipe.stages, request)
    flow.prepare()
    return flow


def _encoded(pipe: InpaintPipeline, request: Request) -> Flow:
    flow = _prepared(pipe, request)
    assert len(list(flow.encode())) == len(flow.images_to_encode())
    return flow


def _batch(pipe: InpaintPipeline, *flows: Flow) -> Batch[Flow]:
    channels, height, width = flows[0].entries[0].latents.shape
    capacity = sum(len(flow.entries) for flow in flows)
    batch = Batch[Flow](Slots(pipe.stages.step, capacity=capacity, latent_shape=(channels, height, width)))
    for flow in flows:
        while flow.waiting:
            batch.join(flow)
    return batch


def _images(flow: Flow) -> list[Image.Image]:
    images = flow.paste()
    assert isinstance(images, list)
    return images


def test_a_flow_says_how_far_it_has_come(pipe: InpaintPipeline) -> None:
    flow = Flow(pipe.stages, _request())
    seen = [flow.stage]
    flow.prepare()
    seen.append(flow.stage)
    pieces = flow.encode()
    seen.append(flow.stage)
    for _ in pieces:
        assert flow.stage is Stage.ENCODING
    seen.append(flow.stage)
    batches = MicroBatches(pipe.stages.step, flow, None)
    for _ in range(batches.total):
        batches.step()
    pieces = flow.decode()
    seen.append(flow.stage)
    assert list(pieces) == []
    flow.paste()
    seen.append(flow.stage)
    passed = [stage for stage in Stage if stage is not Stage.DENOISING]  # noted by whoever runs the steps
    assert seen == passed
    moments = [flow.entered[stage] for stage in passed]
    assert moments == sorted(moments)


def test_flows_that_share_a_batch_give_what_the_pipeline_gives(pipe: InpaintPipeline) -> None:
    requests = [
        _request({**OPTIONS, "num_images_per_prompt": 2, "seed": [1, 2]}),
        _request({**OPTIONS, "seed": 3, "num_inference_steps": 5}),
    ]
    flows = [_encoded(pipe, request) for request in requests]
    batch = _batch(pipe, *flows)
    assert [flow.in_slots for flow in flows] == [2, 1]
    while batch.assignments:
        batch.step()
    assert [flow.steps_done for flow in flows] == [[3, 3], [5]]
    for request, flow in zip(requests, flows, strict=True):
        assert flow.denoised
        assert len(list(flow.decode())) == len(request.prompts) - 1
        image: Any = request.images[0]
        alone = pipe(str(request.prompts[0]), image, request.masks[0], **request.options).images
        for mine, expected in zip(_images(flow), alone, strict=True):
            assert largest_difference(mine, expected) <= 1


def test_a_result_that_is_not_finite_ends_its_flow_at_once(pipe: InpaintPipeline) -> None:
    latents = np.full((1, 4, SIDE // 8, SIDE // 8), 3e38, np.float32)
    overflowing: Options = {**OPTIONS, "latents": latents}
    flows = [_encoded(pipe, _request(options)) for options in (OPTIONS, overflowing)]
    batch = _batch(pipe, *flows)
    with np.errstate(all="ignore"):
        assert batch.step() == [flows[1]]
        with pytest.raises(EngineRunError, match="NaN or infinite"):
            next(pipe.stream("a red balloon", gradient(SIDE, SIDE), disc_mask(SIDE, SIDE), **overflowing))
    assert [flow.steps_done for flow in flows] == [[1], [1]]


def test_estimates_are_those_of_one_flow_alone(pipe: InpaintPipeline) -> None:
    flows = [_encoded(pipe, _request({**OPTIONS, "num_inference_steps": steps})) for steps in (2, 4)]
    batch = _batch(pipe, *flows)
    for _ in range(3):
        batch.step()
    short, long = (batch.estimates(flow) for flow in flows)
    np.testing.assert_array_equal(short[0], flows[0].latents[0])
    assert not flows[1].latents
    assert np.abs(long[0] - short[0]).max() > 0


def test_rows_follow_guidance(pipe: InpaintPipeline) -> None:
    flow = _encoded(pipe, _request({**OPTIONS, "guidance_interval": (0.5, 1.0)}))
    batch = _batch(pipe, flow)
    assert flow.rows == 2
    rows = []
    while batch.assignments:
        rows.append(batch.slots.row_counts)
        batch.step()
    assert rows == [(1,), (1,), (2,)]  # from half of the steps on


def test_a_mask_with_nothing_to_repaint_ends_a_flow_early(pipe: InpaintPipeline) -> None:
    empty = Image.new("L", (SIDE, SIDE), 0)
    flow = _prepared(pipe, _request(mask=empty))
    assert flow.unchanged
    assert largest_difference(_images(flow)[0], gradient(SIDE, SIDE)) == 0
    assert "nothing to repaint" in flow.warnings[0]
    with pytest.raises(ParameterError, match="nothing to repaint"):
        _prepared(pipe, _request({**OPTIONS, "output_type": "latent"}, mask=empty)).paste()


def test_what_cannot_be_sampled_is_refused_before_anything_is_read(pipe: InpaintPipeline) -> None:
    options: Options = {"scheduler": "euler", "eta": 0.5}
    request = make_request("a tree", b"no image", disc_mask(SIDE, SIDE), options, SD)
    with pytest.raises(ParameterError, match="eta has no meaning"):
        Flow(pipe.stages, request)
