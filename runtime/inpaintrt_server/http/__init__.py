"""What every HTTP interface shares: limits, keys, errors, uploads, running a job, metrics, the log.

An interface is an `api.Api`, made by a function `make_api(settings)` that `application` calls. A path that
paints does this, in this order:

1. `with running.admission(context_of(request)) as permit:` takes a place before the body is read.
2. `bodies.read_form(request)` or `bodies.read_json(request, Model)` reads the body within the limits.
3. `uploads.decode_base64` and `uploads.check_upload` make bytes of images and look at their headers.
4. `inpaintrt.request.make_request` with these bytes, then `bounds.check_bounds`.
5. `running.start_job(...)` gives a `Running`; `await running.result()` waits, `events.EventStream` streams. A
   client that hangs up cancels the job in both.
6. `result_files.encode_images` or `as_base64`, and the header of `timing.server_timing`.

Whatever goes wrong is raised, and becomes an answer in one place: `errors` has the table, the interface's
`shape` the JSON around it, `errors_schema.problem_responses` what OpenAPI says of it.
"""
