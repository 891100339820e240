"""Labels from a CSV beside the images."""

import pytest

from service.blobs.store import BlobStore
from service.datasets.admission import admit_archive
from service.datasets.errors import BadManifest, OneClass
from service.datasets.ingest import IngestResult, ingest
from service.datasets.limits import Limits
from tests.data.archives import class_folders, folder, tar_bytes, zip_bytes
from tests.data.pictures import picture

IMAGES = {f"images/{n}.png": picture(n) for n in range(4)}


def sealed(tmp_path, files: dict[str, bytes], **options) -> IngestResult:
    (tmp_path / "upload").write_bytes(zip_bytes(files))
    return ingest(tmp_path / "upload", store=BlobStore(tmp_path / "blobs"), project="p", threads=2, **options)


def rows(result: IngestResult) -> dict[str, tuple[str, str]]:
    return {row.path: (result.manifest.classes[row.label], row.split) for row in result.manifest.rows()}


CSVS = {
    "header": "path,label\nimages/0.png,cat\nimages/1.png,dog\n",
    "hub's names": "file_name,class\nimages/0.png,cat\nimages/1.png,dog\n",
    "other order and more columns": "id,label,width,image\n7,cat,12,images/0.png\n8,dog,12,images/1.png\n",
    "no header": "images/0.png,cat\nimages/1.png,dog\n",
    "semicolons": "path;label\nimages/0.png;cat\nimages/1.png;dog\n",
    "tabs": "path\tlabel\nimages/0.png\tcat\nimages/1.png\tdog\n",
    "byte order mark": "\ufeffPath, Label\nimages/0.png, cat \nimages/1.png,dog\n",
    "carriage returns": "path,label\r\nimages/0.png,cat\r\n\r\nimages/1.png,dog",
    "quotes": '"path","label"\n"images/0.png","cat"\n"./images/1.png","dog"\n',
    "backslashes": "path,label\nimages\\0.png,cat\nimages\\1.png,dog\n",
}


@pytest.mark.parametrize("name", CSVS)
def test_a_csv_gives_labels(name, tmp_path):
    result = sealed(tmp_path, {**IMAGES, "labels.csv": CSVS[name].encode()})
    assert rows(result) == {"images/0.png": ("cat", "train"), "images/1.png": ("dog", "train")}
    assert result.report.layout == "csv"
    assert result.report.unlabelled.shown == ("images/2.png", "images/3.png")
    assert result.report.notes[0] == "Labels are those of 'labels.csv'."
    assert admit_archive(tmp_path / "upload").layout == "csv"


def test_split_column(tmp_path):
    text = "path,label,split\nimages/0.png,cat,train\nimages/1.png,dog,val\nimages/2.png,cat,TEST\nimages/3.png,dog,\n"
    assert rows(sealed(tmp_path, {**IMAGES, "labels.csv": text.encode()})) == {
        "images/0.png": ("cat", "train"),
        "images/1.png": ("dog", "validation"),
        "images/2.png": ("cat", "test"),
        "images/3.png": ("dog", "train"),
    }


def test_the_split_comes_from_the_name_of_the_csv_or_of_a_folder(tmp_path):
    files = {
        "data/0.png": picture(0),
        "train/1.png": picture(1),
        "validation/2.png": picture(2),
        "data/test.csv": b"path,label\n0.png,cat\n",
        "train/metadata.csv": b"file_name,label\n1.png,dog\n",
        "labels.csv": b"path,label\nvalidation/2.png,dog\n",
    }
    assert rows(sealed(tmp_path, files)) == {
        "data/0.png": ("cat", "test"),
        "train/1.png": ("dog", "train"),
        "validation/2.png": ("dog", "validation"),
    }


def test_rows_that_cannot_be_used_are_named_by_line(tmp_path):
    lines = [
        "path,label,split",
        "images/0.png,cat,",
        "images/1.png,dog,",
        "images/absent.png,cat,",
        "../../etc/passwd,cat,",
        "images/2.png,,",
        "images/2.png,dog,holdout",
        "images/3.png",
        f"images/3.png,{'x' * 300},",
    ]
    result = sealed(tmp_path, {**IMAGES, "labels.csv": "\n".join(lines).encode()})
    assert [(p.name, p.reason.split(";")[0]) for p in result.report.unreadable.shown] == [
        ("labels.csv:4", "names 'images/absent.png', which is no image of the dataset"),
        ("labels.csv:5", "names '../../etc/passwd', which is no image of the dataset"),
        ("labels.csv:6", "has no usable label (empty, longer than 200 characters, or unprintable)"),
        ("labels.csv:7", "names the split 'holdout'"),
        ("labels.csv:8", "has 1 columns instead of 3 or more"),
        ("labels.csv:9", "has no usable label (empty, longer than 200 characters, or unprintable)"),
    ]
    assert len(result.manifest) == 2


def test_one_path_with_two_labels_is_a_conflict_and_said_twice_is_nothing(tmp_path):
    text = "path,label\nimages/0.png,cat\nimages/0.png,dog\nimages/1.png,cat\nimages/1.png,cat\nimages/2.png,dog\n"
    result = sealed(tmp_path, {**IMAGES, "labels.csv": text.encode()})
    assert rows(result) == {"images/1.png": ("cat", "train"), "images/2.png": ("dog", "train")}
    assert result.report.conflicts.shown[0].labels == ("cat", "dog")
    assert result.report.duplicate_copies == 0


def test_a_csv_outranks_folders_and_another_csv_is_left_alone(tmp_path):
    files = class_folders(classes=["a", "b"], each=2)
    files |= {"labels.csv": b"path,label\na/0.png,x\nb/0.png,y\n", "sizes.csv": b"name,width\nfoo,3\n"}
    result = sealed(tmp_path, files)
    assert result.manifest.classes == ("x", "y")
    assert "'sizes.csv' is no list of labels and was not used." in result.report.notes


def test_folders_are_used_where_no_csv_is_a_list_of_labels(tmp_path):
    files = class_folders() | {"results.csv": b"epoch,loss\n1,0.3\n", "metadata.csv": b"file_name,width\ncat/0.png,3\n"}
    result = sealed(tmp_path, files)
    assert result.manifest.classes == ("cat", "dog")
    assert result.report.layout == "folders"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"path,label\nno/such.png,cat\n", BadManifest),
        (b"path,label\n", BadManifest),
        (b"path,label\nimages/0.png,\xff\xfe\n", BadManifest),
        (b'path,label\nimages/0.png,"' + b"x" * 200_000, BadManifest),
        (b"path,label\nimages/0.png,cat\nimages/1.png,cat\n", OneClass),
    ],
)
def test_a_csv_that_labels_nothing_is_refused(text, error, tmp_path):
    with pytest.raises(error):
        sealed(tmp_path, {**IMAGES, "labels.csv": text})
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


def test_a_csv_over_its_limit_is_refused(tmp_path):
    with pytest.raises(BadManifest, match="larger than 50 bytes"):
        sealed(
            tmp_path,
            {**IMAGES, "labels.csv": CSVS["header"].encode() + b"\n" * 100},
            limits=Limits(max_manifest_bytes=50),
        )


def test_a_csv_in_a_tar_and_in_a_folder(tmp_path):
    files = {**IMAGES, "zlabels.csv": CSVS["header"].encode()}
    (tmp_path / "t.tar").write_bytes(tar_bytes(files))
    folder(tmp_path / "f", files)
    both = [ingest(tmp_path / n, store=BlobStore(tmp_path / "blobs"), project="p") for n in ("t.tar", "f")]
    assert rows(both[0]) == rows(both[1]) == {"images/0.png": ("cat", "train"), "images/1.png": ("dog", "train")}
