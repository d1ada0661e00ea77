// Stands in for the native add-on of aws-lambda-ric, which few machines can build; loaded before it with `--require`.
//
// It has the add-on's three functions and reads the headers that the add-on reads. The add-on blocks until an answer is
// posted; here `next` waits for it.

const http = require("node:http");
const Module = require("node:module");

const [hostname, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const READ = [
  "lambda-runtime-aws-request-id",
  "lambda-runtime-deadline-ms",
  "lambda-runtime-invoked-function-arn",
  "lambda-runtime-trace-id",
  "lambda-runtime-client-context",
  "lambda-runtime-cognito-identity",
  "lambda-runtime-aws-tenant-id",
];
let posted = Promise.resolve();

function ask(method, where, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const options = { hostname, port, agent, method, path: `/2018-06-01/runtime/invocation/${where}`, headers };
    const request = http.request(options, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => resolve({ response, text: Buffer.concat(chunks).toString("utf8") }));
    });
    request.on("error", reject);
    request.end(body);
  });
}

function post(where, body, headers = {}) {
  const sized = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body), ...headers };
  posted = ask("POST", where, body, sized);
}

const addon = {
  next: async () => {
    await posted;
    const { response, text } = await ask("GET", "next");
    const given = Object.entries(response.headers).filter(([name]) => READ.includes(name));
    return { bodyJson: text, headers: Object.fromEntries(given) };
  },
  done: (id, body) => post(`${id}/response`, body),
  error: (id, body, xray) => post(`${id}/error`, body, { "Lambda-Runtime-Function-XRay-Error-Cause": xray }),
};

const load = Module._load;
Module._load = (request, ...more) => (request === "./rapid-client.node" ? addon : load(request, ...more));
