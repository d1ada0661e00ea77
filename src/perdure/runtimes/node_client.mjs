// Run the Node.js function of a package: ask the Runtime API for events, call the handler, give its answers.
//
// It is run by any Node.js from 18 on, with nothing but what Node.js has. To the function it looks as AWS Lambda's own
// client does: CommonJS and ES modules, async handlers and callbacks, the context, the errors, the forms of the log.

import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import util from 'node:util';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const ROOT = '/2018-06-01/runtime/';
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const isJson = process.env.AWS_LAMBDA_LOG_FORMAT === 'JSON';
const agent = new http.Agent({ keepAlive: true });
const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];
const levelMin = isJson ? Math.max(LEVELS.indexOf((process.env.AWS_LAMBDA_LOG_LEVEL ?? '').toUpperCase()), 0) : 0;
let now = null; // the invocation under way

class Failure extends Error {
  constructor(type, message) {
    super(message);
    this.name = type;
  }
}

// --- the Runtime API -------------------------------------------------------------------------------------------------

function call(method, where, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const more = body === undefined ? {} : { 'Content-Type': 'application/json', 'Content-Length': body.length };
    const options = { host, port, agent, method, path: ROOT + where, headers: { ...more, ...headers } };
    const request = http.request(options, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('end', () => resolve([answer.statusCode, answer.headers, Buffer.concat(parts)]));
      answer.on('error', reject);
    });
    request.on('error', reject);
    request.setNoDelay(true);
    request.end(body);
  });
}

function gone() {
  process.exit(1); // nobody is left to serve
}

// --- errors ----------------------------------------------------------------------------------------------------------

function described(error) {
  if (error instanceof Error || util.types.isNativeError(error)) {
    const trace = String(error.stack ?? '').split('\n');
    return { errorType: error.name || 'Error', errorMessage: String(error.message), trace };
  }
  return { errorType: typeof error, errorMessage: String(error), trace: [] };
}

function logError(label, body) {
  const shown = { errorType: body.errorType, errorMessage: body.errorMessage, stack: body.trace };
  if (isJson) {
    write({ timestamp: new Date().toISOString(), level: 'ERROR', requestId: now?.requestId, message: shown });
  } else {
    line(`${new Date().toISOString()}\t${now?.requestId ?? 'undefined'}\tERROR\t${label}\t${JSON.stringify(shown)}`);
  }
}

async function failInit(error) {
  const body = described(error);
  logError('Uncaught Exception', body);
  const headers = { 'Lambda-Runtime-Function-Error-Type': body.errorType };
  await call('POST', 'init/error', Buffer.from(JSON.stringify(body)), headers).catch(gone);
  process.exit(129);
}

// --- the log ---------------------------------------------------------------------------------------------------------

function line(text) {
  const data = Buffer.from(text.replaceAll('\n', '\r') + '\n'); // the lines of one record stay together
  for (let begin = 0; begin < data.length; ) {
    try {
      begin += fs.writeSync(1, data, begin);
    } catch (error) {
      if (error.code !== 'EAGAIN') return;
    }
  }
}

function write(record) {
  line(JSON.stringify(record, (_, value) => (value instanceof Error ? described(value) : plain(value))));
}

function plain(value) {
  return typeof value === 'bigint' ? String(value) : value;
}

function patchConsole() {
  const as = (level) => (...given) => {
    if (LEVELS.indexOf(level) < levelMin) return;
    const timestamp = new Date().toISOString();
    if (!isJson) {
      line(`${timestamp}\t${now?.requestId ?? 'undefined'}\t${level}\t${util.format(...given)}`);
      return;
    }
    const only = given.length === 1 && typeof given[0] === 'object' && !(given[0] instanceof Error) ? given[0] : null;
    const record = { timestamp, level, requestId: now?.requestId, message: only ?? util.format(...given) };
    if (now?.tenantId) record.tenantId = now.tenantId;
    const error = given.find((one) => one instanceof Error);
    if (error !== undefined) {
      const { errorType, errorMessage, trace } = described(error);
      Object.assign(record, { errorType, errorMessage, stackTrace: trace });
    }
    try {
      write(record);
    } catch {
      line(`${timestamp}\t${now?.requestId ?? 'undefined'}\t${level}\t${util.format(...given)}`); // it refers to itself
    }
  };
  const levels = { log: 'INFO', info: 'INFO', debug: 'DEBUG', warn: 'WARN', error: 'ERROR', trace: 'TRACE' };
  for (const [name, level] of Object.entries(levels)) console[name] = as(level);
  console.fatal = as('FATAL');
}

// --- the handler -----------------------------------------------------------------------------------------------------

async function load(root, name) {
  const found = /^(.*?)\.([^/]+)$/.exec(path.posix.basename(name));
  if (found === null || name.includes('..')) {
    throw new Failure('Runtime.MalformedHandlerName', `Bad handler '${name}': it must be 'file.function'`);
  }
  const [, file, exported] = found;
  const place = path.resolve(root, path.posix.dirname(name), file);
  const module = await imported(place, path.posix.join(path.posix.dirname(name), file));
  const handler = pick(module, exported) ?? pick(module.default, exported);
  if (handler === undefined) throw new Failure('Runtime.HandlerNotFound', `${name} is undefined or not exported`);
  if (typeof handler !== 'function') throw new Failure('Runtime.HandlerNotFound', `${name} is not a function`);
  return handler;
}

function pick(module, exported) {
  return exported.split('.').reduce((value, part) => value?.[part], module);
}

async function imported(place, name) {
  try {
    if (fs.existsSync(place) && fs.statSync(place).isFile()) return createRequire(place)(place);
    if (fs.existsSync(`${place}.js`)) {
      return isModule(place) ? await import(pathToFileURL(`${place}.js`)) : createRequire(place)(`${place}.js`);
    }
    if (fs.existsSync(`${place}.mjs`)) return await import(pathToFileURL(`${place}.mjs`));
    return createRequire(place)(place); // .cjs below; a folder with index.js; else the error says what is missing
  } catch (error) {
    if (fs.existsSync(`${place}.cjs`)) return createRequire(place)(`${place}.cjs`);
    if (error instanceof SyntaxError) throw named('Runtime.UserCodeSyntaxError', `SyntaxError: ${error.message}`, error);
    if (error?.code === 'MODULE_NOT_FOUND' || error?.code === 'ERR_MODULE_NOT_FOUND') {
      throw named('Runtime.ImportModuleError', `Error: ${error.message}`, error);
    }
    throw error;
  }
}

function named(type, message, cause) {
  const failure = new Failure(type, message);
  failure.stack = cause.stack;
  return failure;
}

function isModule(place) {
  for (let folder = path.dirname(place); ; folder = path.dirname(folder)) {
    const manifest = path.join(folder, 'package.json');
    if (fs.existsSync(manifest)) {
      try {
        return JSON.parse(fs.readFileSync(manifest, 'utf8')).type === 'module';
      } catch {
        return false;
      }
    }
    if (folder === path.dirname(folder) || path.basename(folder) === 'node_modules') return false;
  }
}

// --- one event after the other ---------------------------------------------------------------------------------------

function object(text) {
  try {
    return text ? JSON.parse(text) : undefined;
  } catch {
    return undefined;
  }
}

function contextOf(headers, settle) {
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  const { env } = process;
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: object(headers['lambda-runtime-client-context']),
    identity: object(headers['lambda-runtime-cognito-identity']),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    tenantId: headers['lambda-runtime-aws-tenant-id'],
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
    done: (error, result) => settle(error, result, true),
    succeed: (result) => settle(null, result, true),
    fail: (error) => settle(error ?? new Error('handled'), undefined, true),
  };
}

// The outcome of one event: [isError, value]. A callback waits until nothing else is going on, unless it is told not to.
function outcomeOf(handler, headers, event) {
  return new Promise((resolve) => {
    const finish = (error, value) => {
      process.removeListener('beforeExit', idle);
      now.finish = null;
      resolve([error, value]);
    };
    let told = null;
    const idle = () => finish(...(told ?? [false, undefined]));
    process.on('beforeExit', idle);
    now.finish = finish;
    const settle = (error, result, isDone) => {
      if (told !== null) return;
      told = error === null || error === undefined ? [false, result] : [true, error];
      if (isDone || !context.callbackWaitsForEmptyEventLoop) setImmediate(() => finish(...told));
    };
    const context = contextOf(headers, settle);
    try {
      const returned = handler(event, context, (error, result) => settle(error, result, false));
      if (typeof returned?.then === 'function') {
        returned.then(
          (value) => finish(false, value),
          (error) => finish(true, error),
        );
      }
    } catch (error) {
      finish(true, error);
    }
  });
}

async function answer(handler, headers, body) {
  const requestId = headers['lambda-runtime-aws-request-id'];
  now = { requestId, tenantId: headers['lambda-runtime-aws-tenant-id'], finish: null };
  const trace = headers['lambda-runtime-trace-id'];
  if (trace) process.env._X_AMZN_TRACE_ID = trace;
  else delete process.env._X_AMZN_TRACE_ID;
  let isError = false;
  let value;
  let sent;
  try {
    [isError, value] = await outcomeOf(handler, headers, JSON.parse(body.toString()));
  } catch (error) {
    isError = true;
    value = new Failure('Runtime.UnmarshalError', `Unable to unmarshal input: ${error.message}`);
  }
  if (!isError) {
    try {
      sent = Buffer.from(JSON.stringify(value === undefined ? null : value) ?? 'null');
    } catch {
      isError = true;
      value = new Failure('Runtime.MarshalError', 'Unable to stringify response body');
    }
  }
  if (isError) {
    const shown = described(value);
    logError('Invoke Error', shown);
    sent = Buffer.from(JSON.stringify(shown));
  }
  const more = isError ? { 'Lambda-Runtime-Function-Error-Type': header(described(value).errorType) } : {};
  const invocationId = headers['lambda-runtime-invocation-id'];
  if (invocationId) more['Lambda-Runtime-Invocation-Id'] = invocationId;
  await call('POST', `invocation/${requestId}/${isError ? 'error' : 'response'}`, sent, more);
  now = null;
}

function header(text) {
  return String(text).replace(/[^\x21-\x7e]/g, '?');
}

function catchTheUncaught() {
  const end = async (error) => {
    const body = described(error);
    if (now === null) return failInit(error);
    logError('Uncaught Exception', body);
    const sent = Buffer.from(JSON.stringify(body));
    const headers = { 'Lambda-Runtime-Function-Error-Type': header(body.errorType) };
    await call('POST', `invocation/${now.requestId}/error`, sent, headers).catch(gone);
    process.exit(128);
  };
  process.on('uncaughtException', end);
  process.on('unhandledRejection', (reason) => {
    const failure = new Failure('Runtime.UnhandledPromiseRejection', reason?.toString() ?? String(reason));
    if (reason?.stack) failure.stack = reason.stack;
    end(failure);
  });
}

patchConsole();
catchTheUncaught();
try {
  const handler = await load(process.env.LAMBDA_TASK_ROOT ?? process.cwd(), process.env._HANDLER ?? '');
  for (;;) {
    const [status, headers, body] = await call('GET', 'invocation/next').catch(gone);
    if (status !== 200) gone();
    await answer(handler, headers, body).catch(gone);
  }
} catch (error) {
  await failInit(error);
}
