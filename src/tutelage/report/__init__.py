"""From rows to what a person looks at: tables, curves, videos, one page."""
