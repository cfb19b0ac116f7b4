"""Cut the first messages out of the upstream bags, keeping container, schema and metadata.

Run from the repository root with EVDISTILL_TEST_DATA set; see README.md for the sources.
"""

import os
import shutil
import sqlite3
from pathlib import Path

from mcap.reader import make_reader
from mcap.writer import Writer

SOURCE = Path(os.environ["EVDISTILL_TEST_DATA"]) / "bags"
TARGET = Path(__file__).parent / "bags"


def cut_sqlite(bag, name, count):
    folder = TARGET / bag
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SOURCE / bag / name, folder / name)
    connection = sqlite3.connect(folder / name)
    with connection:
        connection.execute(
            "DELETE FROM messages WHERE id NOT IN "
            "(SELECT id FROM messages ORDER BY timestamp, id LIMIT ?)",
            (count,),
        )
    connection.execute("VACUUM")
    connection.close()


def cut_mcap(bag, name, count):
    folder = TARGET / bag
    folder.mkdir(parents=True, exist_ok=True)
    with (SOURCE / bag / name).open("rb") as source, (folder / name).open("wb") as target:
        reader, writer = make_reader(source), Writer(target)
        writer.start(profile=reader.get_header().profile, library=reader.get_header().library)
        channel_id = None
        for number, (schema, channel, message) in enumerate(reader.iter_messages()):
            if number == count:
                break
            if channel_id is None:
                schema_id = writer.register_schema(schema.name, schema.encoding, schema.data)
                channel_id = writer.register_channel(
                    channel.topic, channel.message_encoding, schema_id, channel.metadata
                )
            writer.add_message(
                channel_id, message.log_time, message.data, message.publish_time, message.sequence
            )
        writer.finish()
    shutil.copyfile(SOURCE / bag / "metadata.yaml", folder / "metadata.yaml")


if __name__ == "__main__":
    cut_sqlite("evt3_vga_person", "test_events_1.db3", 40)
    cut_mcap("libcaer_cmp_davis346_tags", "test_events_2_0.mcap", 6)
