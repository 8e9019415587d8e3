"""Sources of labelled text: one module per source."""

from tenor.config.schema import Data
from tenor.data.dataset import SourceData
from tenor.data.sources.embedded import embedded_reviews, rotten_tomatoes
from tenor.data.sources.hub import hub_source, sst2
from tenor.data.sources.imdb import imdb_source
from tenor.data.sources.labels import file_source
from tenor.errors import UserError


def read_source(data: Data) -> SourceData:
    """Read `data.source`, in its own order, before `data.test_size`, `validation` and `subset` are applied.

    Rows without an id in the source are named by their row number, counted from 1.
    Raises UserError for files that cannot be read or understood.
    """
    match data.source:
        case "embedded":
            return embedded_reviews(data)
        case "rotten_tomatoes":
            return rotten_tomatoes(data)
        case "imdb":
            return imdb_source(data)
        case "file":
            return file_source(data)
        case "hub":
            return hub_source(data)
        case "sst2":
            return sst2(data)
        case "given":
            raise UserError(
                "data.source=given: this run's rows were passed as Python objects. Pass them again with "
                "tenor.train(config, data=…) or tenor.resume(run, data=…), or set another data.source."
            )
