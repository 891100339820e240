"""Eight real pretrained models on two real datasets: the order that their pretraining lets one expect."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.service import Service, without

SHARED = Path(__file__).parents[2] / "../shared/data"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data do not lie beside the project"),
    pytest.mark.skipif(
        os.environ.get("ZOOSCOUT_SLOW_TESTS") != "1", reason="takes minutes: set ZOOSCOUT_SLOW_TESTS=1 to run it"
    ),
]


def requests() -> list[dict[str, Any]]:
    return [
        {
            "name": entry["name"],
            "architecture": entry["timm"],
            "arch_kwargs": entry.get("arch_kwargs", {}),
            "weights": f"file:{(SHARED / 'weights' / entry['file']).resolve()}",
            "sha256": entry["sha256"],
            "mean": entry["mean"],
            "std": entry["std"],
            "input_size": entry["input_size"][1],
        }
        for entry in json.loads((SHARED / "weights/manifest.json").read_text())
    ]


def test_the_order_that_pretraining_lets_one_expect(make_service: Callable[..., Service]) -> None:
    service = make_service(worker={"decode_threads": 0})
    wanted = requests()
    assert len(wanted) == 8
    for request in wanted:
        service.call("POST", "/v1/models", 201, json=request)
    service.work(seconds=900)
    assert {m["state"] for m in service.call("GET", "/v1/models")["items"]} == {"ready"}
    rankings = {}
    for name in ("cifar10", "xray3"):
        dataset = service.sealed((SHARED / f"images/{name}.zip").read_bytes(), name=name)
        made = service.call("POST", "/v1/rankings", 202, json={"dataset": dataset["id"], "models": {"name": "*"}})
        service.work(seconds=1800)
        rankings[name] = service.call("GET", f"/v1/rankings/{made['id']}")
        assert (rankings[name]["state"], rankings[name]["split"]) == ("done", "train")
    order = {name: [e["model"] for e in view["entries"]] for name, view in rankings.items()}
    assert set(order["cifar10"][:2]) == {"mobilenetv1_100_in1k", "mobilenetv2_100_in1k_q"}
    assert order["xray3"][0] == "mobilenetv1_100_in1k"
    second, third = rankings["xray3"]["entries"][1:3]
    assert third["model"] in second["tied_with"]
    assert second["model"] in third["tied_with"]
    assert {names[-1] for names in order.values()} == {"mobilenetv2_skincancer"}
    for view in rankings.values():
        again = service.ranked(view["dataset"]["id"], {"name": "*"})
        # A model's speed is that of its last forward passes, which the other dataset's ranking has measured since.
        assert [without(e, "images_per_second") for e in again["entries"]] == [
            without(e, "images_per_second") for e in view["entries"]
        ]
        assert service.tasks(kind="embed", subject_id=again["id"]) == []
