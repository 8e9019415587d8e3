// Requests to the server, and what is said while it is busy.
import { part, plural, Problem, report } from "./dom.js";

export const server = {
  info: null, // The answer of /v1/info.
  key: "", // The API key, in memory only.
};
const running = { predict: null, explain: null }; // An AbortController each.

const REFUSED = {
  413: "Too large for the server",
  422: "The server cannot use this",
  429: "The server is busy",
  503: "The server is not ready",
  504: "The server took too long",
};

/** The answer to a request. A server that is busy or not ready is asked again after the seconds that it names. */
export async function ask(path, content, signal) {
  const options = { signal, cache: "no-store", credentials: "omit", redirect: "error", headers: {} };
  if (server.key) options.headers["Authorization"] = `Bearer ${server.key}`;
  if (content) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(content);
  }
  for (;;) {
    const [response, answer] = await sent(path, options);
    if (response.ok) return answer;
    const title = REFUSED[response.status] ?? `The server answered ${response.status}`;
    const message = String(answer.error ?? "It gave no reason.");
    if (response.status === 401) {
      askForKey();
      throw new Problem(server.key ? "The API key was refused" : "An API key is required", message, 401);
    }
    const seconds = Number(response.headers.get("Retry-After") ?? NaN);
    if (![429, 503].includes(response.status) || !(seconds >= 0)) throw new Problem(title, message, response.status);
    part("waiting").textContent = `${title}. Trying again in ${plural(seconds, "second")}.`;
    await pause(1000 * seconds, signal).finally(() => (part("waiting").textContent = ""));
  }
}

async function sent(path, options) {
  try {
    const response = await fetch(path, options);
    const text = await response.text();
    try {
      return [response, JSON.parse(text)];
    } catch {
      if (response.ok) throw new Problem("The answer cannot be read", `${path} answered something other than JSON.`);
      return [response, {}];
    }
  } catch (error) {
    if (error instanceof Problem || options.signal?.aborted) throw error;
    const fix = "Check the connection, and that tenor serve is still running, then try again.";
    throw new Problem("No answer from the server", `${location.origin} cannot be reached. ${fix}`);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

/** Run `work(signal)` in place of what still runs under this name. */
export async function run(name, work) {
  running[name]?.abort();
  const mine = (running[name] = new AbortController());
  part("problem").replaceChildren();
  const late = name === "predict" && setTimeout(() => (part("progress").hidden = false), 300);
  try {
    await work(mine.signal);
  } catch (error) {
    if (!mine.signal.aborted) report(error);
  } finally {
    clearTimeout(late);
    if (running[name] === mine) {
      running[name] = null;
      if (name === "predict") hideProgress();
    }
  }
}

export function stop(name) {
  running[name]?.abort();
}

/** A focused button that disappears would send the focus to the top of the page. */
function hideProgress() {
  const focused = part("progress").contains(document.activeElement);
  part("progress").hidden = true;
  if (focused) (["many-title", "one-title"].map(part).find((one) => one?.checkVisibility()) ?? part("go")).focus();
}

function askForKey() {
  part("key").hidden = false;
  part("key-value").focus();
}
