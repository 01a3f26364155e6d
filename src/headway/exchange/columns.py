"""Write Parquet files with the images inside, as Hugging Face lays them out: image {bytes, path} and label."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from headway.data.dataset import TEST, TRAIN, VAL
from headway.exchange.writing import Item, Layout, stem_of

_WORDS = {TRAIN: "train", VAL: "validation", TEST: "test"}  # as Hugging Face spells them
_GROUP_BYTES = 16 << 20  # of images in a row group: what a reader must hold for one image
_GROUP_ROWS = 1000
_FILE_BYTES = 500 << 20


class ParquetWriter:
    """`train-00000-of-00002.parquet` and so on; an image without a label has -1."""

    def __init__(self, out: Path, layout: Layout, opened: ExitStack) -> None:
        self._out, self._layout, self._opened = out, layout, opened
        self._schema = _schema(layout.classes)
        self._files: dict[str, list[Path]] = {}
        self._word = ""
        self._writer: Any = None
        self._rows: list[tuple[dict[str, Any], int]] = []
        self._held = self._written = 0

    def add(self, item: Item) -> None:
        """Take one image; written are whole row groups."""
        word = _WORDS.get(self._layout.subset(item), "data")
        if word != self._word or self._written + self._held >= _FILE_BYTES:
            self._end_file()
            self._word = word
        path = stem_of(item.name) + item.ending
        self._rows.append(({"bytes": item.content, "path": path}, item.label))
        self._held += len(item.content)
        if self._held >= _GROUP_BYTES or len(self._rows) >= _GROUP_ROWS:
            self._end_group()

    def finish(self) -> None:
        """Write the rest, and give the files their names, which say how many there are."""
        self._end_file()
        for word, paths in self._files.items():
            for number, path in enumerate(paths):
                path.rename(self._out / f"{word}-{number:05d}-of-{len(paths):05d}.parquet")

    def _end_group(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._rows:
            return
        if self._writer is None:
            files = self._files.setdefault(self._word, [])
            files.append(self._out / f"{self._word}.{len(files)}.part")
            # Images are compressed already; a checksum on every page finds a flipped bit.
            writer = pq.ParquetWriter(
                files[-1], self._schema, compression="none", use_dictionary=["label"], write_page_checksum=True
            )
            self._writer = self._opened.enter_context(writer)
        images, labels = zip(*self._rows, strict=True)
        columns = [pa.array(images, self._schema.field("image").type), pa.array(labels, pa.int64())]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self._written += self._held
        self._rows, self._held = [], 0

    def _end_file(self) -> None:
        self._end_group()
        if self._writer is not None:
            self._writer.close()
        self._writer, self._written = None, 0


def _schema(classes: tuple[str, ...]) -> Any:
    import pyarrow as pa

    features = {"image": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    told = json.dumps({"info": {"features": features}})
    return pa.schema([("image", image), ("label", pa.int64())], metadata={"huggingface": told})
