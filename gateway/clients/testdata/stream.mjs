// A reader of server-sent events by fetch, as the README tells apps to have one: it goes on after the last event that it has seen.

// events reads a stream until close(). seen({id, data}) gets each event, reset({reason}) that what is shown is to be read anew.
export function events({url, token, seen, reset = () => {}}) {
  const stop = new AbortController();
  let last;
  let open;
  const opened = new Promise((resolve) => { open = resolve; });
  const read = async () => {
    const response = await fetch(url, {headers: {authorization: `Bearer ${token}`, ...(last && {'last-event-id': last})}, signal: stop.signal});
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    const decoder = new TextDecoder();
    let text = '';
    for (const reader = response.body.getReader(); ;) {
      const {done, value} = await reader.read();
      if (done) return;
      text += decoder.decode(value, {stream: true});
      for (let at; (at = text.indexOf('\n\n')) >= 0; text = text.slice(at + 2)) block(text.slice(0, at));
    }
  };
  const block = (text) => {
    const fields = {};
    for (const line of text.split('\n')) {
      const [name, value] = line.split(/: ?(.*)/s);
      if (name) fields[name] = name in fields ? `${fields[name]}\n${value}` : value;
    }
    if (fields.id !== undefined) last = fields.id; // also of a beat, which has no data
    if (fields.id !== undefined) open();
    if (fields.data === undefined) return;
    const data = JSON.parse(fields.data);
    if (fields.event === 'reset') reset(data);
    else if (!fields.event) seen({id: fields.id, data});
  };
  const ended = (async () => {
    while (!stop.signal.aborted) {
      await read().catch(() => {}); // it broke, or the gateway is not there
      if (!stop.signal.aborted) await new Promise((resolve) => { setTimeout(resolve, 200); });
    }
  })();
  return {opened, close: () => { stop.abort(); return ended; }};
}
