"""What every HTTP interface shares: limits, keys, errors, uploads, running a job, metrics, the log.

An interface is an `api.Api`, made by a function `make_api(settings)` that `application` calls. A path that
paints does this, in this order, each with what the one before gave:

1. `with running.admission(request) as admitted:` takes a place before the body is read.
2. `bodies.read_body`, `read_form` or `read_json` reads the body within the limits.
3. The interface turns fields into the pipeline's options, and images into files whose headers were read
   (`uploads.decode_base64`, `uploads.check_upload`).
4. `bounds.make_bounded_request` makes the pipeline's request, within the limits of the server.
5. `admitted.start_job(...)` gives a `Running`; its `result` waits for results as files, its `stream` is an
   answer of server-sent events. A client that hangs up cancels the job in both.
6. The interface puts its JSON around the files.

Whatever goes wrong is raised, and becomes an answer in one place: `errors` has the table, the interface's
`shape` the JSON around it, `errors_schema.problem_responses` what OpenAPI says of it.
"""
