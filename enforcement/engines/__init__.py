"""A history that lies as Parquet, replayed where it lies: by DuckDB, Polars or Spark, without an import."""
