"""What Elasticsearch costs: the client's CPU, recall and size by kind of index, the indexer's memory."""
