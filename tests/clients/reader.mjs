// Asks with the reader of docs/troubleshooting.md, which the first argument names, and prints what it told.
// Arguments: reader, URL, token, body, and optionally after how many events to give up.

const [reader, url, token, body, patience = "Infinity"] = process.argv.slice(2);
const { ask } = await import(reader);

const events = [];
const giveUp = new AbortController();
const outcome = { events };
try {
  outcome.done = await ask(
    url,
    token,
    JSON.parse(body),
    (name, data) => {
      events.push([name, data]);
      if (events.length >= Number(patience)) giveUp.abort();
    },
    giveUp.signal,
  );
} catch (error) {
  outcome.error = error.name === "AbortError" ? "gave up" : error.message;
}
console.log(JSON.stringify(outcome));
