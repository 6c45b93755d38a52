"""Executors that compute the sums of chunks: processes, devices, a Dask cluster."""
