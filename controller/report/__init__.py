"""The report on one artifact, as a page and as Markdown: documents in, text out. Knows no cluster and no torch."""
