"""What a worker does by itself again and again, and what it leaves alone."""

from datetime import timedelta

from sqlalchemy import update

from service.core.clock import utc_now
from service.core.settings import RetentionSettings
from service.jobs import repository as jobs
from service.jobs.tables import ScheduleRow, TaskRow
from service.operation import repository
from service.rankings.tables import RankingRow
from service.worker.upkeep import ROUND, Upkeep
from tests.helpers.service import Service
from tests.helpers.zoo import TinyZoo

DAY = 24 * 3600.0


def again(service: Service) -> None:
    with service.database.write() as session:
        session.execute(update(ScheduleRow).where(ScheduleRow.name == ROUND).values(due_at=0.0))


def test_of_all_workers_one_does_a_round_and_then_it_is_due_again(each_service: Service) -> None:
    service = each_service
    first, second = (Upkeep(service.database, RetentionSettings(upkeep_seconds=60)) for _ in range(2))
    assert [first.round_if_due(), second.round_if_due(), first.round_if_due()] == [True, False, False]
    assert [kind for kind, state, _ in service.tasks(kind="collect", state="queued")] == ["collect"]
    again(service)
    assert [second.round_if_due(), first.round_if_due()] == [True, False]
    service.work()
    assert service.tasks(kind="collect", state="queued") == []


def test_what_is_kept_and_for_how_long(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[:1])
    dataset = service.sealed()
    old, new = (service.ranked(dataset["id"], tiny_zoo.names[:1], estimators=["logme"]) for _ in range(2))
    stray = service.data_dir / "segments" / "default" / "stray"
    stray.write_bytes(b"of nobody")
    with service.database.write() as session:
        long_ago = utc_now() - timedelta(days=40)
        session.execute(update(TaskRow).values(finished_at=long_ago))
        session.execute(update(RankingRow).where(RankingRow.id == old["id"]).values(finished_at=long_ago))
        jobs.worker_seen(session, "gone", device="cpu")
    Upkeep(service.database, RetentionSettings()).round_if_due()
    assert {item["id"] for item in service.call("GET", "/v1/rankings")["items"]} == {old["id"], new["id"]}
    assert {kind for kind, state, _ in service.tasks() if state == "done"} == {"plan", "embed"}
    with service.database.read() as session:
        assert [worker.id for worker in jobs.workers(session)] == ["gone"]
    again(service)
    Upkeep(service.database, RetentionSettings(rankings_seconds=30 * DAY)).round_if_due()
    service.call("GET", f"/v1/rankings/{old['id']}", 404)
    shown = service.call("GET", f"/v1/rankings/{new['id']}")
    assert shown["entries"][0]["scores"]["logme"]["value"] is not None
    service.work()
    assert stray.exists()  # younger than the grace period


def test_a_worker_that_is_long_gone_is_forgotten(service: Service) -> None:
    with service.database.write() as session:
        for name in ("today", "yesterday"):
            jobs.worker_seen(session, name, device="cpu")
        session.flush()
        session.connection().exec_driver_sql("UPDATE workers SET seen_at = seen_at - 60")
        session.connection().exec_driver_sql("UPDATE workers SET seen_at = seen_at - 90000 WHERE id = 'yesterday'")
    Upkeep(service.database, RetentionSettings()).round_if_due()
    with service.database.read() as session:
        assert [worker.id for worker in repository.lost_workers(session)] == ["today"]
        assert session.connection().exec_driver_sql("SELECT count(*) FROM workers").scalar_one() == 1
