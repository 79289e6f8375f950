"""The interfaces: one module or package for each, all on the same helpers of `inpaintrt_server.http`."""
