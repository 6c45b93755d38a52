"""Where chunks are summed: processes, devices, a Dask cluster."""
