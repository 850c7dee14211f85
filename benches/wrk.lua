-- Sends the body in the file that BENCH_BODY names, and ends with one line of JSON for `cargo xtask bench`.
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"

local file = assert(io.open(os.getenv("BENCH_BODY"), "rb"))
wrk.body = file:read("*a")
file:close()

function done(summary, latency, requests)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   io.write(string.format('{"requests":%d,"duration_us":%d,"failed":%d}\n',
      summary.requests, summary.duration, failed))
end
