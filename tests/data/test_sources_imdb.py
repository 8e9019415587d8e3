"""IMDb from Parquet, from the extracted folder and from the archive: the same reviews, and no unsafe archive."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenor.config.schema import Data
from tenor.data.dataset import LabelledText, SourceData
from tenor.data.sources import imdb, read_source
from tenor.data.sources.imdb import MAX_FILE_BYTES
from tenor.errors import UserError

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "imdb"
# Numeric order differs from the alphabetical one: 10 comes after 2.
REVIEWS = {"neg": ["10_1", "2_4", "0_3"], "pos": ["0_9", "1_10"]}
ORDERED = ["neg/0_3", "neg/2_4", "neg/10_1", "pos/0_9", "pos/1_10"]


def official_files() -> dict[str, bytes]:
    files = {"aclImdb/README": b"about", "aclImdb/train/unsup/0_0.txt": b"no label"}
    for split in ("train", "test"):
        for name, reviews in REVIEWS.items():
            lines = (f"http://www.imdb.com/title/tt{name}{number}/usercomments" for number in range(11))
            urls = "\n".join(lines).replace("ttneg", "tt100").replace("ttpos", "tt200")
            files[f"aclImdb/{split}/urls_{name}.txt"] = urls.encode()
            for review in reviews:
                files[f"aclImdb/{split}/{name}/{review}.txt"] = f"{split} {name} {review} é\x85<br />".encode()
    return files


def archive(path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo) -> tuple[Path, str]:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def folder(path: Path) -> Path:
    for name, content in official_files().items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, "/etc/passwd"
    return info


def splits(source: SourceData) -> tuple[LabelledText, LabelledText]:
    assert isinstance(source.train, LabelledText)
    assert isinstance(source.test, LabelledText)
    return source.train, source.test


def test_folder_and_archive_hold_the_same_reviews_in_official_order(tmp_path: Path) -> None:
    path, digest = archive(tmp_path / "aclImdb_v1.tar.gz", official_files())
    data = Data(source="imdb", path=str(path), group_column="movie")
    from_archive = splits(imdb.imdb_source(data, digest))
    parent = folder(tmp_path / "extracted")
    for place in (parent, parent / "aclImdb"):
        from_folder = splits(read_source(data.model_copy(update={"path": str(place)})))
        for one, other in zip(from_archive, from_folder, strict=True):
            assert one.table.equals(other.table)
    train, test = from_archive
    assert train.ids == [f"train/{name}" for name in ORDERED]
    assert test.ids == [f"test/{name}" for name in ORDERED]
    assert train.labels.tolist() == [0, 0, 0, 1, 1]
    assert train.class_names == ("negative", "positive")
    assert train.texts[2] == "train neg 10_1 é\x85<br />"
    assert train.groups is not None
    assert train.groups.tolist() == ["tt1000", "tt1002", "tt10010", "tt2000", "tt2001"]


def test_any_column_of_the_official_files_can_group(tmp_path: Path) -> None:
    path = folder(tmp_path)
    groups = splits(read_source(Data(source="imdb", path=str(path), group_column="rating")))[0].groups
    assert groups is not None
    assert groups.tolist() == ["3", "4", "1", "9", "10"]
    (path / "aclImdb/train/urls_neg.txt").unlink()
    with pytest.raises(UserError, match=r"no column 'movie'"):
        read_source(Data(source="imdb", path=str(path), group_column="movie"))


def test_an_archive_with_another_digest_is_refused_unread(tmp_path: Path) -> None:
    path, _ = archive(tmp_path / "aclImdb_v1.tar.gz", official_files())
    with pytest.raises(UserError, match=r"SHA-256 is [0-9a-f]{64}, expected c40f74a1"):
        read_source(Data(source="imdb", path=str(path)))


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (member("aclImdb/train/neg/5_1.txt", tarfile.SYMTYPE), "neither a regular file nor a folder"),
        (member("aclImdb/train/neg/5_1.txt", tarfile.LNKTYPE), "neither a regular file nor a folder"),
        (member("aclImdb/null", tarfile.CHRTYPE), "neither a regular file nor a folder"),
        (member("aclImdb/pipe", tarfile.FIFOTYPE), "neither a regular file nor a folder"),
        (member("/aclImdb/train/neg/5_1.txt"), "has a path outside the archive"),
        (member("aclImdb/../../5_1.txt"), "has a path outside the archive"),
        (member("aclImdb/train/neg/5_1.txt", size=MAX_FILE_BYTES + 1), "is larger than"),
        (member("aclImdb/train/neg/0_3.txt"), "occurs twice"),
    ],
)
def test_an_unsafe_archive_is_refused(tmp_path: Path, extra: tarfile.TarInfo, expected: str) -> None:
    path, digest = archive(tmp_path / "aclImdb_v1.tar.gz", official_files(), extra)
    with pytest.raises(UserError, match=expected):
        imdb.imdb_source(Data(source="imdb", path=str(path)), digest)
    assert [file.name for file in tmp_path.iterdir()] == ["aclImdb_v1.tar.gz"]


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenor.data.sources.imdb.MAX_MEMBERS", 3)
    path, digest = archive(tmp_path / "aclImdb_v1.tar.gz", official_files())
    with pytest.raises(UserError, match="exceeds the limit of 3 members"):
        imdb.imdb_source(Data(source="imdb", path=str(path)), digest)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path, _ = archive(tmp_path / "aclImdb_v1.tar.gz", official_files())
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"not an archive", whole[:100] + b"\0\0\0\0" + whole[104:]):
        path.write_bytes(content)
        with pytest.raises(UserError):
            imdb.imdb_source(Data(source="imdb", path=str(path)), hashlib.sha256(content).hexdigest())


def rename(path: Path) -> None:
    (path / "aclImdb/test/pos/0_9.txt").rename(path / "aclImdb/test/pos/notes.txt")


def remove_class(path: Path) -> None:
    (path / "aclImdb/test/pos").rename(path / "aclImdb/test/positive")


def empty_class(path: Path) -> None:
    for file in (path / "aclImdb/train/pos").iterdir():
        file.unlink()


def other_encoding(path: Path) -> None:
    (path / "aclImdb/train/neg/2_4.txt").write_bytes("é".encode("latin-1"))


def short_urls(path: Path) -> None:
    (path / "aclImdb/train/urls_neg.txt").write_text("http://www.imdb.com/title/tt1/usercomments\n")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (rename, "notes.txt: is not a review"),
        (remove_class, "no such folder"),
        (empty_class, "no review in train/pos"),
        (other_encoding, "train/neg/2_4.txt is not UTF-8"),
        (short_urls, "no title id on line 3"),
    ],
)
def test_a_spoilt_folder_is_refused(tmp_path: Path, spoil: Callable[[Path], None], expected: str) -> None:
    spoil(folder(tmp_path))
    with pytest.raises(UserError, match=expected):
        read_source(Data(source="imdb", path=str(tmp_path)))


@pytest.mark.parametrize("place", ["", "data", "plain_text"])
def test_parquet_files_are_found_and_joined_in_order(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(exist_ok=True)
    for split, parts in {"train": 2, "test": 1}.items():
        for part in range(parts):
            table = pa.table({"text": [f"{split} {part} a", f"{split} {part} b"], "label": [part, 1]})
            pq.write_table(table, tmp_path / place / f"{split}-0000{part}-of-0000{parts}.parquet")
    train, test = splits(read_source(Data(source="imdb", path=str(tmp_path))))
    assert list(train.texts) == ["train 0 a", "train 0 b", "train 1 a", "train 1 b"]
    assert train.labels.tolist() == [0, 1, 1, 1]
    assert train.ids == ["1", "2", "3", "4"]
    assert len(test) == 2


def test_unlabelled_parquet_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": [-1]}), tmp_path / "train-0.parquet")
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "test-0.parquet")
    with pytest.raises(UserError, match="are -1, which marks unlabelled rows"):
        read_source(Data(source="imdb", path=str(tmp_path)))


def test_a_place_with_nothing_of_the_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no train-\*\.parquet"):
        read_source(Data(source="imdb", path=str(tmp_path)))
    with pytest.raises(UserError, match="no such file or folder"):
        read_source(Data(source="imdb", path=str(tmp_path / "none")))


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pooch = pytest.importorskip("pooch")

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", fail)
    with pytest.raises(UserError, match=r"could not be downloaded: no route to host.*data\.path="):
        read_source(Data(source="imdb"))


def test_a_download_is_verified_against_the_official_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pooch = pytest.importorskip("pooch")
    path, digest = archive(tmp_path / "aclImdb_v1.tar.gz", official_files())
    asked: dict[str, object] = {}

    def retrieve(url: str, **options: object) -> str:
        asked.update(options, url=url)
        return str(path)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(splits(imdb.imdb_source(Data(source="imdb"), digest))[0]) == 5
    assert asked["known_hash"] == f"sha256:{imdb.ARCHIVE_SHA256}"


@dataclass
class Server:
    """Serves `content` on this machine alone, whatever is asked for."""

    content: bytes = b"not the archive"
    asked: int = 0
    """How often."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """In the place of the publisher's."""
    pytest.importorskip("pooch")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(state.content)))
            self.end_headers()
            self.wfile.write(state.content)

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setattr(imdb, "ARCHIVE_URL", f"http://127.0.0.1:{listening.server_port}/aclImdb_v1.tar.gz")
        yield state
        listening.shutdown()
        thread.join()


def test_another_file_than_the_official_one_is_refused_and_not_kept(server: Server, own_cache: Path) -> None:
    for times in (1, 2):
        with pytest.raises(UserError, match=r"could not be downloaded: SHA256 hash .* does not match"):
            read_source(Data(source="imdb"))
        assert server.asked == times
        assert [path for path in own_cache.rglob("*") if path.is_file()] == []


def test_the_official_file_is_kept_in_the_cache_and_asked_for_once(
    server: Server, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, digest = archive(tmp_path / "served.tar.gz", official_files())
    server.content = path.read_bytes()
    monkeypatch.setattr(imdb, "ARCHIVE_SHA256", digest)
    for _ in range(2):
        assert len(splits(imdb.imdb_source(Data(source="imdb"), digest))[0]) == 5
    assert server.asked == 1
    assert [file.name for file in (own_cache / "downloads").iterdir()] == ["aclImdb_v1.tar.gz"]


def test_without_pooch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pooch and tqdm.*tenor\[download\]"):
        read_source(Data(source="imdb"))


@pytest.mark.skipif(not REAL.is_dir(), reason="the official reviews are not beside the checkout")
def test_the_official_reviews() -> None:
    train, test = splits(read_source(Data(source="imdb", path=str(REAL), group_column="movie")))
    for rows, movies in ((train, 3456), (test, 3581)):
        assert rows.label_counts().tolist() == [12_500, 12_500]
        assert rows.groups is not None
        assert len(set(rows.groups)) == movies
    assert train.ids[0] == "train/neg/0_3"
    assert sum(len(text.encode()) + 12 for text in train.texts) == 33_432_823
