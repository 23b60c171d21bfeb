"""Predictions as other tools write them, and exports of labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from anmok.errors import BadData
from anmok.evidence.audit_rows import matched, read_groups
from anmok.evidence.predictions import Predictions
from anmok.evidence.readers import read_folder, read_predictions
from audit_samples import write_csv, write_pictures


def write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def named(*names: str, is_ordinal: bool = False) -> Predictions:
    answers = ("cat",) * len(names)
    return Predictions(names, answers, None, None, None, None, None, "table", "", is_ordinal)


def test_a_csv_with_all_columns(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "p.csv",
        ("image", "label", "pred", "score", "split", "group"),
        [("./a\\1.jpg", "cat", "dog", "0.75", "Testing", "p1"), ("2.jpg", "dog", "", "", "train", "p2")],
    )
    read = read_predictions(path)
    assert read.names == ("a/1.jpg", "2.jpg")
    assert read.labels == ("cat", "dog")
    assert read.predicted == ("dog", "")
    assert read.score is not None
    assert read.score[0] == 0.75
    assert np.isnan(read.score[1])
    assert read.split == ("test", "train")
    assert read.group == ("p1", "p2")
    assert len(read.sha256) == 64


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiter_and_byte_order_mark_are_sniffed(tmp_path: Path, delimiter: str, encoding: str) -> None:
    text = "Filename|Ground Truth|y_pred\n고양이.jpg|고양이|개\n".replace("|", delimiter)
    path = tmp_path / "p.csv"
    path.write_bytes(text.encode(encoding))
    read = read_predictions(path)
    assert (read.names, read.labels, read.predicted) == (("고양이.jpg",), ("고양이",), ("개",))


def test_decomposed_hangul_is_the_same_name(tmp_path: Path) -> None:
    import unicodedata

    path = write_csv(tmp_path / "p.csv", ("image", "pred"), [(unicodedata.normalize("NFD", "고양이.jpg"), "x")])
    assert read_predictions(path).names == ("고양이.jpg",)


def test_parquet_and_json_records_read_like_a_table(tmp_path: Path) -> None:
    columns = {"path": ["1.jpg", "2.jpg"], "target": [0, 1], "prediction": [1, 1], "fold": [0, 3]}
    parquet.write_table(pa.table(columns), tmp_path / "p.parquet")
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    files = [
        tmp_path / "p.parquet",
        write_json(tmp_path / "rows.json", rows),
        write_json(tmp_path / "columns.json", columns),
    ]
    for path in files:
        read = read_predictions(path, ("cat", "dog"))
        assert read.names == ("1.jpg", "2.jpg")
        assert read.labels == ("cat", "dog")
        assert read.predicted == ("dog", "dog")
        assert read.split == ("0", "3")


def test_a_column_of_scores_per_class_is_a_prediction(tmp_path: Path) -> None:
    rows = [("1.jpg", "cat", 0.2, 0.8), ("2.jpg", "cat", 0.6, 0.4)]
    read = read_predictions(write_csv(tmp_path / "p.csv", ("image", "label", "cat", "dog"), rows))
    assert read.predicted == ("dog", "cat")
    assert read.score is not None
    assert read.score.tolist() == [0.8, 0.6]


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        (("name", "label", "pred"), ("1", "a", "b"), "no image column among name, label, pred; want columns image"),
        (("image", "label"), ("1", "a"), "no column with the prediction among image, label; want columns image"),
        (("image", "pred", "split"), ("1", "a", "holy"), "split must be train, val or test"),
        (("image", "pred", "score"), ("1", "a", "high"), "the column score must hold numbers"),
        (("image", "pred"), ("1", "a", "b"), "row 2 has 3 cells, the header 2"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(
    tmp_path: Path, header: tuple[str, ...], row: tuple[str, ...], says: str
) -> None:
    with pytest.raises(BadData, match=says):
        read_predictions(write_csv(tmp_path / "p.csv", header, [row]))


def test_an_image_that_stands_there_twice_is_named(tmp_path: Path) -> None:
    rows = [("1.jpg", "a"), ("2.jpg", "a"), ("1.jpg", "b")]
    with pytest.raises(BadData, match=r"1 images stand there twice \(1.jpg\)"):
        read_predictions(write_csv(tmp_path / "p.csv", ("image", "pred"), rows))


def test_other_encodings_pickles_and_unknown_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes("image,pred\n고양이.jpg,개\n".encode("cp949"))
    (tmp_path / "p.pkl").write_bytes(b"")
    (tmp_path / "p.xlsx").write_bytes(b"")
    for name, says in (("p.csv", "not UTF-8"), ("p.pkl", "pickled code"), ("p.xlsx", "unknown kind of file")):
        with pytest.raises(BadData, match=says):
            read_predictions(tmp_path / name)
    with pytest.raises(BadData, match="no such file"):
        read_predictions(tmp_path / "none.csv")


def test_ultralytics_label_files_give_the_best_line(tmp_path: Path) -> None:
    labels = tmp_path / "predict" / "labels"
    labels.mkdir(parents=True)
    (labels / "a b.txt").write_text("0.61 tabby cat\n0.30 dog\n0.72 dog\n0.10 tabby cat\n", encoding="utf-8")
    (labels / "c.txt").write_text("1.00 dog\n", encoding="utf-8")
    read = read_predictions(tmp_path / "predict")
    assert read.names == ("a b", "c")
    assert read.predicted == ("dog", "dog"), "a second run was appended: the highest confidence counts"
    assert read.score is not None
    assert read.score.tolist() == [0.72, 1.0]
    assert read.layout == "ultralytics"


def test_ultralytics_detections_and_bare_val_folders_say_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    with pytest.raises(BadData, match="lines of a detector"):
        read_predictions(tmp_path)
    val = tmp_path / "val"
    val.mkdir()
    (val / "confusion_matrix.png").write_bytes(b"")
    with pytest.raises(BadData, match="`yolo classify predict save_txt=True`"):
        read_predictions(val)


def test_ultralytics_predictions_json_takes_the_best_category(tmp_path: Path) -> None:
    rows = [
        {"image_id": 7, "file_name": "007.jpg", "category_id": 0, "bbox": [0, 0, 1, 1], "score": 0.4},
        {"image_id": 7, "file_name": "007.jpg", "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.9},
        {"image_id": "b", "file_name": "b.jpg", "category_id": 0, "bbox": [0, 0, 1, 1], "score": 0.5},
    ]
    write_json(tmp_path / "predictions.json", rows)
    read = read_predictions(tmp_path, ("cat", "dog"))
    assert read.names == ("007.jpg", "b.jpg")
    assert read.predicted == ("dog", "cat")


COCO = {
    "images": [{"id": 1, "file_name": "x/1.jpg"}, {"id": 2, "file_name": "x/2.jpg"}],
    "categories": [{"id": 5, "name": "cat"}, {"id": 9, "name": "dog"}],
    "annotations": [
        {"image_id": 1, "category_id": 5},
        {"image_id": 1, "category_id": 5},
        {"image_id": 2, "category_id": 9},
    ],
}
RESULTS = [{"image_id": 1, "category_id": 9, "score": 0.3}, {"image_id": 1, "category_id": 5, "score": 0.6}]


def test_coco_results_with_annotations_beside_or_inside(tmp_path: Path) -> None:
    write_json(tmp_path / "instances_val.json", COCO)
    beside = read_predictions(write_json(tmp_path / "results.json", RESULTS))
    (tmp_path / "one").mkdir()
    inside = read_predictions(write_json(tmp_path / "one" / "all.json", {**COCO, "results": RESULTS}))
    for read in (beside, inside):
        assert read.names == ("x/1.jpg", "x/2.jpg")
        assert read.labels == ("cat", "dog")
        assert read.predicted == ("cat", ""), "no result is no answer"


def test_coco_images_of_several_categories_are_no_classification(tmp_path: Path) -> None:
    annotations = [*COCO["annotations"], {"image_id": 2, "category_id": 5}]
    with pytest.raises(BadData, match=r"1 images carry several categories \(x/2.jpg\)"):
        read_predictions(write_json(tmp_path / "all.json", {**COCO, "annotations": annotations, "results": RESULTS}))
    write_json(tmp_path / "one.json", COCO)
    write_json(tmp_path / "two.json", COCO)
    (tmp_path / "all.json").unlink()
    with pytest.raises(BadData, match=r"several annotation files beside it \(one.json, two.json\)"):
        read_predictions(write_json(tmp_path / "results.json", RESULTS))


def test_trainer_outputs(tmp_path: Path) -> None:
    logits, truth = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]]), np.array([0, 1, 1])
    np.savez(tmp_path / "out.npz", predictions=logits, label_ids=truth)
    whole = {"predictions": logits.tolist(), "label_ids": truth.tolist(), "metrics": {"test_accuracy": 0.9}}
    for path, claimed in ((tmp_path / "out.npz", None), (write_json(tmp_path / "out.json", whole), 0.9)):
        read = read_predictions(path, ("cat", "dog"))
        assert read.names == ("0", "1", "2")
        assert read.is_ordinal
        assert read.labels == ("cat", "dog", "dog")
        assert read.predicted == ("cat", "dog", "cat")
        assert read.claimed == claimed
        assert read.score is not None
        np.testing.assert_allclose(read.score, 1 / (1 + np.exp([-2.0, -1.0, -2.0])))


def test_predict_results_txt(tmp_path: Path) -> None:
    path = tmp_path / "predict_results.txt"
    path.write_text("index\tprediction\n0\tcat\n1\tdog\n", encoding="utf-8")
    read = read_predictions(tmp_path)
    assert read.predicted == ("cat", "dog")
    assert read.labels is None
    assert read.is_ordinal
    path.write_text("index\tprediction\n1\tcat\n", encoding="utf-8")
    with pytest.raises(BadData, match="want the lines 0, 1, 2"):
        read_predictions(path)


def test_npz_with_objects_is_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "out.npz", predictions=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadData, match="never with pickle"):
        read_predictions(tmp_path / "out.npz")


def test_broken_json_says_where(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"a": 1,\n oops', encoding="utf-8")
    with pytest.raises(BadData, match="no JSON .* in line 2"):
        read_predictions(tmp_path / "p.json")
    with pytest.raises(BadData, match="unknown layout"):
        read_predictions(write_json(tmp_path / "q.json", {"a": 1}))


def test_class_numbers_beyond_the_names_are_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "p.csv", ("image", "pred"), [("1.jpg", 2)])
    with pytest.raises(BadData, match="class number 2, but only 2 classes"):
        read_predictions(path, ("cat", "dog"))


def test_roboflow_folders_are_images_and_labels(tmp_path: Path) -> None:
    names = ["train/cat/1_jpg.rf.0123456789.jpg", "valid/dog/2.jpg", "test/cat/3.jpg"]
    folder = read_folder(write_pictures(tmp_path, names))
    assert folder.names == tuple(sorted(names))
    assert dict(zip(folder.names, folder.labels, strict=True)) == dict(zip(names, ("cat", "dog", "cat"), strict=True))
    assert dict(zip(folder.names, folder.split, strict=True)) == dict(zip(names, ("train", "val", "test"), strict=True))
    with pytest.raises(BadData, match="images and labels, no predictions"):
        read_predictions(tmp_path)


def test_roboflow_multiclass_table_names_the_classes(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["train/1.jpg", "train/2.jpg", "test/3.jpg"])
    write_csv(tmp_path / "train" / "_classes.csv", ("filename", " cat", " dog"), [("1.jpg", 1, 0), ("2.jpg", 0, 1)])
    write_csv(tmp_path / "test" / "_classes.csv", ("filename", " cat", " dog"), [("3.jpg", 0, 1)])
    folder = read_folder(tmp_path)
    assert folder.names == ("test/3.jpg", "train/1.jpg", "train/2.jpg")
    assert folder.labels == ("dog", "cat", "dog")
    assert folder.split == ("test", "train", "train")
    with pytest.raises(BadData, match="labels without predictions"):
        read_predictions(tmp_path / "train" / "_classes.csv")
    write_csv(tmp_path / "test" / "_classes.csv", ("filename", "cat", "dog"), [("3.jpg", 1, 1)])
    with pytest.raises(BadData, match=r"1 images have several classes \(3.jpg\)"):
        read_folder(tmp_path)


def test_a_folder_without_images_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no images there"):
        read_folder(tmp_path)
    with pytest.raises(BadData, match="no such folder"):
        read_folder(tmp_path / "none")


def test_names_match_by_the_longest_end_that_fits_one_file(tmp_path: Path) -> None:
    files = ["a/x/1.jpg", "a/y/1.jpg", "b/y/1.jpg", "c/000123.png"]
    folder = read_folder(write_pictures(tmp_path, files))
    assert folder.names == tuple(files)
    assert matched(named("/home/me/a/x/1.jpg", "b/y/1", "123"), folder) == [0, 2, 3]
    with pytest.raises(BadData, match="2 images of the folder end so"):
        matched(named("y/1.jpg"), folder)
    with pytest.raises(BadData, match="1 predictions fall on an image that has one"):
        matched(named("x/1.jpg", "a/x/1.jpg"), folder)


def test_predictions_of_other_images_are_counted_both_ways(tmp_path: Path) -> None:
    folder = read_folder(write_pictures(tmp_path, [f"{i}.png" for i in range(5)]))
    with pytest.raises(BadData) as caught:
        matched(named("0.png", "p.png", "q.png", "r.png", "s.png"), folder)
    said = str(caught.value)
    assert "4 of 5 predicted images are not in" in said
    assert "(p.png, q.png, r.png ...)" in said
    assert "4 of its 5 images have no prediction (1.png, 2.png, 3.png ...)" in said


def test_numbered_rows_need_exactly_as_many_images(tmp_path: Path) -> None:
    folder = read_folder(write_pictures(tmp_path, ["train/a/0.png", "test/a/2.png", "test/a/1.png"]))
    assert matched(named("0", "1", is_ordinal=True), folder) == [0, 1]
    with pytest.raises(BadData, match="3 numbered rows, .* has 2 images"):
        matched(named("0", "1", "2", is_ordinal=True), folder)


def test_groups_come_from_a_table(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "g.csv", ("File", "Patient"), [("a/1.jpg", "p1"), ("a/2.jpg", "p2")])
    assert read_groups(path) == {"a/1.jpg": "p1", "a/2.jpg": "p2"}
    with pytest.raises(BadData, match="no column group among image, colour"):
        read_groups(write_csv(tmp_path / "h.csv", ("image", "colour"), [("a", "b")]))
