"""An HTTP server for reranking, in Jina's and Cohere's forms: `perank serve`, or `python -m perank.serving`."""
