// A client as people write it first: whatever a read brings is taken for whole lines, and a line that
// begins with `data: ` for a whole event. Prints the data of every one.

const [url, token, body] = process.argv.slice(2);
const response = await fetch(url, {
  method: "POST",
  headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
  body,
});
const decoder = new TextDecoder();
const found = [];
for await (const chunk of response.body) {
  for (const line of decoder.decode(chunk).split("\n")) {
    if (line.startsWith("data: ")) found.push(JSON.parse(line.slice(6)));
  }
}
console.log(JSON.stringify(found));
