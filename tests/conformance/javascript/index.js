// The handler of the reference sequences, written for the official JavaScript SDK; `reference.py` is its twin.

const fs = require("node:fs");
const { NestingType, StepSemantics, withDurableExecution } = require("@aws/durable-execution-sdk-js");

const SECOND = { seconds: 1 };
const FLUSHED_MS = 500;

const retries = (most) => (error, attempt) =>
  attempt < most ? { shouldRetry: true, delay: SECOND } : { shouldRetry: false };

const one = (n) => async () => n;

const throws = (text) => async () => {
  throw new Error(text);
};

// A step's body that fails so often, and then works; how often it has run is in a file.
const failing = (times, mark) => async () => {
  fs.appendFileSync(mark, "x");
  if (fs.statSync(mark).size <= times) throw new Error("not yet");
  return "done";
};

// A step's body in which the process dies, the first time that it runs.
const dying = (mark, delayMs) => async () => {
  if (!fs.existsSync(mark)) {
    fs.writeFileSync(mark, "");
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    process.exit(1);
  }
  return "survived";
};

const scenarios = {
  echo: async (event) => event,
  step: (event, context) => context.step("one", one(1)),
  "step-and-wait": async (event, context) => {
    await context.step("one", one(1));
    await context.wait("rest", SECOND);
  },
  "step-retried": (event, context) =>
    context.step("flaky", failing(1, event.mark), { retryStrategy: retries(2) }),
  "retries-exhausted": (event, context) =>
    context.step("hopeless", throws("never"), { retryStrategy: retries(4) }),
  "killed-at-most-once": (event, context) =>
    context.step("deadly", dying(event.mark, 0), {
      retryStrategy: retries(1),
      semantics: StepSemantics.AtMostOncePerRetry,
    }),
  "killed-at-most-once-retried": (event, context) =>
    context.step("deadly", dying(event.mark, 0), {
      retryStrategy: retries(2),
      semantics: StepSemantics.AtMostOncePerRetry,
    }),
  "two-waits": async (event, context) => {
    await context.wait("first", SECOND);
    await context.wait("second", SECOND);
  },
  "child-context": (event, context) => context.runInChildContext("box", (child) => child.step("inner", one(1))),
  "child-context-throws": (event, context) => context.runInChildContext("box", throws("in the box")),
  "killed-in-child": (event, context) =>
    context.runInChildContext("box", (child) => child.step("deadly", dying(event.mark, FLUSHED_MS))),
  callback: async (event, context) => {
    const [answer] = await context.createCallback("ask");
    return answer;
  },
  "callback-timeout": async (event, context) => {
    const [answer] = await context.createCallback("ask", { timeout: SECOND });
    return answer;
  },
  "heartbeat-timeout": async (event, context) => {
    const [answer] = await context.createCallback("ask", { heartbeatTimeout: SECOND });
    return answer;
  },
  "callback-and-wait": async (event, context) => {
    const [answer] = await context.createCallback("ask");
    await context.wait("rest", { seconds: 3 });
    return answer;
  },
  invoke: (event, context) => context.invoke("call", event.target, { scenario: event.as }),
  "slow-child": async (event, context) => {
    await context.wait("rest", SECOND);
    return "from the child";
  },
  "slow-child-fails": async (event, context) => {
    await context.wait("rest", SECOND);
    throw new Error("the child has failed");
  },
  condition: (event, context) =>
    context.waitForCondition("until three", async (state) => state + 1, {
      initialState: 0,
      waitStrategy: (state) => (state < 3 ? { shouldContinue: true, delay: SECOND } : { shouldContinue: false }),
    }),
  "wait-for-callback": (event, context) =>
    context.waitForCallback("ask", async () => {}, { retryStrategy: retries(1) }),
  "submitter-fails-twice": (event, context) =>
    context.waitForCallback("ask", throws("nobody is there"), { retryStrategy: retries(2) }),
  parallel: async (event, context) => {
    const nothing = async () => null;
    return (await context.parallel("both", [nothing, nothing], { maxConcurrency: 1 })).successCount;
  },
  "parallel-with-failure": async (event, context) => {
    const branches = [async () => null, throws("in the branch")];
    return (await context.parallel("both", branches, { maxConcurrency: 1 })).successCount;
  },
  "parallel-flat": async (event, context) => {
    const steps = (branch) => branch.step("inner", one(1));
    const config = { maxConcurrency: 1, nesting: NestingType.FLAT };
    return (await context.parallel("both", [steps, steps], config)).successCount;
  },
  "map-with-wait": async (event, context) => {
    const item = async (child, n) => {
      if (n === 1) await child.wait("rest", SECOND);
      return child.step("inner", one(n));
    };
    return (await context.map("items", [0, 1], item, { maxConcurrency: 1 })).successCount;
  },
  "large-result": async () => "x".repeat(7 * 1024 * 1024),
  "large-state": async (event, context) => {
    let size = 0;
    for (let n = 0; n < 8; n++) {
      size += (await context.step(`part-${n}`, async () => "x".repeat(700_000))).length;
    }
    await context.wait("rest", SECOND);
    return size;
  },
  "handler-throws": throws("at once"),
};
scenarios["invoke-fails"] = scenarios.invoke;

exports.handler = withDurableExecution((event, context) =>
  scenarios[event?.scenario ?? "echo"](event, context),
);
