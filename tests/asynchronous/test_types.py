"""Column types through asynchronous drivers, which have codecs of their own."""

import pytest

from tests.asynchronous.domain import AsyncPapers, Detail, Paper


@pytest.mark.parametrize("extra", ["text", "1", 1.0, 2**70, False, [], {"é": [1, None, {"": "\0"}]}, None], ids=repr)
def test_json_comes_back_equal(loop, db, extra):
    async def stored():
        async with AsyncPapers(db) as papers:
            added = await papers.add_many([Paper(details=[Detail(name="😀", ratio=1.0)], extra=extra), Paper()])
            return added, await papers.find()

    added, found = loop.run(stored())

    assert added == found
    assert found[0].details == [Detail(name="😀", ratio=1.0)]
    assert (found[0].extra, type(found[0].extra)) == (extra, type(extra))
    assert found[1].details is None
