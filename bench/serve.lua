-- Send the same request again and again, for wrk. RATE is the requests per second of each connection: it then waits an
-- exponentially distributed time between two requests, as independent clients do. Without RATE it does not wait.
-- The last line that is printed is JSON, with times in milliseconds.
local file = io.open(os.getenv("BODY"), "rb")
wrk.method, wrk.body = "POST", file:read("*a")
file:close()
wrk.headers["Content-Type"] = os.getenv("KIND")

local rate = tonumber(os.getenv("RATE"))
if rate then
   function init()
      math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"), 16) % 1000000)
   end
   function delay()
      return math.floor(-1000 / rate * math.log(1 - math.random()) + 0.5)
   end
end

function done(summary, latency)
   local e = summary.errors
   print(string.format('{"requests": %d, "rate": %.1f, "p50": %.2f, "p99": %.2f, "longest": %.1f, "errors": %d}',
      summary.requests, summary.requests / summary.duration * 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
      latency.max / 1000, e.connect + e.read + e.write + e.status + e.timeout))
end
