// Has the built-in nets draw by OpenAI's own client. Arguments: the folder of the npm package, the address of the server. It
// prints the picture as base64.
"use strict";
const assert = require("node:assert/strict");
const [folder, baseURL] = process.argv.slice(2);
const OpenAI = require(folder);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });

(async () => {
  const { data } = await client.images.generate({ prompt: "a red apple", seed: 7 });
  let video = await client.videos.create({ prompt: "a red apple", end_prompt: "a green apple", size: "64x64", num_frames: 5 });
  while (video.status === "queued" || video.status === "in_progress") {
    await new Promise((resolve) => setTimeout(resolve, 50));
    video = await client.videos.retrieve(video.id);
  }
  assert.equal(video.status, "completed", JSON.stringify(video.error));
  const content = Buffer.from(await (await client.videos.downloadContent(video.id)).arrayBuffer());
  assert.equal(content.subarray(4, 8).toString(), "ftyp");
  process.stdout.write(data[0].b64_json);
})();
