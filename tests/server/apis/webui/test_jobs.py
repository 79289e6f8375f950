from PIL import Image

from inpaintrt_server.apis.webui.jobs import Jobs, PreviewsOnDemand, WebuiJob
from inpaintrt_server.batching.events import Started, Stepped


def test_a_preview_is_made_once_for_each_time_it_was_asked_for() -> None:
    previews = PreviewsOnDemand()
    assert 1 not in previews
    previews.ask()
    previews.ask()
    assert 2 in previews
    assert 3 not in previews
    assert len(previews) == 0
    assert list(previews) == []


def test_a_job_notes_how_far_it_is() -> None:
    job, image = WebuiJob("", "mine"), Image.new("RGB", (8, 8))
    assert job.share == 0
    job.record(Started(4))
    job.record(Stepped(1, 4, (image,)))
    job.record(Stepped(2, 4))
    assert (job.share, job.step, job.steps, job.images) == (0.5, 2, 4, (image,))


def test_previews_are_not_asked_for_too_often() -> None:
    job = WebuiJob("", "mine")
    job.want_preview()
    assert 1 in job.previews
    job.want_preview()
    assert 2 not in job.previews


def test_what_still_waits_is_not_interrupted() -> None:
    job = WebuiJob("", "mine")
    job.interrupt()
    waiting = job.interrupted
    job.record(Started(4))
    job.interrupt()
    assert (waiting, job.interrupted) == (False, True)
    assert 1 in job.previews


def test_jobs_are_known_for_as_long_as_they_run_and_to_their_owner() -> None:
    jobs = Jobs()
    with jobs.enter(WebuiJob("a", "first")) as first, jobs.enter(WebuiJob("b", "other")):
        with jobs.enter(WebuiJob("a", "second")) as second:
            assert jobs.of("a") == [first, second]
        assert jobs.of("a") == [first]
        assert jobs.of("c") == []
    assert jobs.of("a") == []
