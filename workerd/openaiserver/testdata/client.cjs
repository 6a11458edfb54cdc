// Uses the server with OpenAI's own client as its users would. Arguments: the folder of the npm package, the address of a server
// with the key "right" whose engine has one slot, of which it takes one more request; see client_test.go for its prompts.
"use strict";
const assert = require("node:assert/strict");
const [folder, baseURL] = process.argv.slice(2);
const OpenAI = require(folder);
const { toFile } = OpenAI;
const client = new OpenAI({ baseURL, apiKey: "right", maxRetries: 0 });

const steps = {
  async "models.list names the model"() {
    const models = [];
    for await (const model of client.models.list()) models.push(model.id);
    assert.deepEqual(models, ["painter-1"]);
    assert.equal((await client.models.retrieve("painter-1")).object, "model");
  },

  async "images.generate gives pictures that differ, and the same for a seed"() {
    const two = await client.images.generate({ model: "painter-1", prompt: "a cat", n: 2, size: "96x64", seed: 7, response_format: "b64_json" });
    assert.equal(two.data.length, 2);
    assert.equal(two.size, "96x64");
    assert.equal(two.output_format, "png");
    const bytes = Buffer.from(two.data[0].b64_json, "base64");
    assert.equal(bytes.subarray(1, 4).toString(), "PNG");
    assert.equal(bytes.readUInt32BE(16), 96);
    assert.equal(bytes.readUInt32BE(20), 64);
    assert.notEqual(two.data[0].b64_json, two.data[1].b64_json);
    const again = await client.images.generate({ prompt: "a cat", size: "96x64", seed: 8, n: 1 });
    assert.equal(again.data[0].b64_json, two.data[1].b64_json);
    assert.equal((await client.images.generate({ prompt: "a cat", size: "auto" })).data.length, 1);
  },

  async "videos: create, retrieve, poll, downloadContent, list, delete"() {
    let video = await client.videos.create({ prompt: "a cat", seconds: "4", size: "64x64", seed: 1 });
    assert.equal(video.object, "video");
    assert.match(video.status, /^(queued|in_progress)$/);
    assert.equal(video.seconds, "4");
    let progress = 0;
    while (video.status === "queued" || video.status === "in_progress") {
      await new Promise((resolve) => setTimeout(resolve, 20));
      video = await client.videos.retrieve(video.id);
      assert.ok(video.progress >= progress, "progress fell");
      progress = video.progress;
    }
    assert.equal(video.status, "completed");
    assert.equal(video.progress, 100);
    assert.ok(video.completed_at >= video.created_at && video.expires_at > video.completed_at);
    const response = await client.videos.downloadContent(video.id);
    assert.equal(response.headers.get("content-type"), "video/mp4");
    const content = Buffer.from(await response.arrayBuffer());
    assert.equal(content.subarray(4, 8).toString(), "ftyp");
    const part = await client.videos.downloadContent(video.id, {}, { headers: { Range: "bytes=4-7" } });
    assert.equal(part.status, 206);
    assert.equal(await part.text(), "ftyp");
    const thumbnail = await client.videos.downloadContent(video.id, { variant: "thumbnail" });
    assert.equal(thumbnail.headers.get("content-type"), "image/jpeg");

    const listed = [];
    for await (const one of client.videos.list({ limit: 1 })) listed.push(one.id);
    assert.deepEqual(listed, [video.id]);
    assert.deepEqual(await client.videos.delete(video.id), { id: video.id, object: "video.deleted", deleted: true });
    await assert.rejects(client.videos.retrieve(video.id), OpenAI.NotFoundError);
  },

  async "videos.create takes pictures as files and as data URLs"() {
    const { data } = await client.images.generate({ prompt: "a cat", size: "32x32" });
    const bytes = Buffer.from(data[0].b64_json, "base64");
    const file = () => toFile(bytes, "cat.png", { type: "image/png" });
    for (const pictures of [
      { input_reference: await file() },
      { input_reference: { image_url: "data:image/png;base64," + data[0].b64_json }, end_prompt: "a dog" },
      { start_image: await file(), end_image: await file() },
    ]) {
      let video = await client.videos.create({ prompt: "a cat", seconds: "1", ...pictures });
      while (video.status === "queued" || video.status === "in_progress") {
        await new Promise((resolve) => setTimeout(resolve, 20));
        video = await client.videos.retrieve(video.id);
      }
      assert.equal(video.status, "completed");
      await client.videos.delete(video.id);
    }
  },

  async "errors have the client's classes"() {
    const refused = async (promise, kind, fields) => {
      const error = await promise.then(() => assert.fail("it was taken"), (e) => e);
      assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
      for (const [name, value] of Object.entries(fields)) assert.equal(error[name], value);
    };
    const wrong = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
    await refused(wrong.models.list(), OpenAI.AuthenticationError, { code: "invalid_api_key", type: "invalid_request_error" });
    await refused(client.images.generate({ prompt: "" }), OpenAI.BadRequestError, { param: "prompt", code: "missing_required_parameter" });
    await refused(client.images.generate({ prompt: "x", n: 9 }), OpenAI.BadRequestError, { param: "n" });
    await refused(client.images.generate({ prompt: "x", response_format: "url" }), OpenAI.BadRequestError, { param: "response_format" });
    await refused(client.images.generate({ prompt: "x", stream: true }), OpenAI.BadRequestError, { param: "stream" });
    await refused(client.images.generate({ prompt: "x", style: "vivid" }), OpenAI.BadRequestError, { param: "style", code: "unknown_parameter" });
    await refused(client.images.generate({ prompt: "x", model: "gpt-image-1" }), OpenAI.NotFoundError, { code: "model_not_found" });
    await refused(client.images.generate({ prompt: "bad" }), OpenAI.BadRequestError, { code: "bad_input" });
    await refused(client.images.generate({ prompt: "down" }), OpenAI.InternalServerError, { status: 503, code: "engine_down" });
    await refused(client.images.edit({ image: await toFile(Buffer.from("x"), "x.png"), prompt: "x" }), OpenAI.BadRequestError, { code: "unsupported" });
    await refused(client.chat.completions.create({ model: "x", messages: [] }), OpenAI.NotFoundError, { code: "unknown_url" });
  },

  async "a full queue is a RateLimitError, and delete ends what runs"() {
    const first = await client.videos.create({ prompt: "slow" });
    const second = await client.videos.create({ prompt: "slow" });
    const error = await client.videos.create({ prompt: "a cat" }).then(() => assert.fail("it was taken"), (e) => e);
    assert.ok(error instanceof OpenAI.RateLimitError, error.message);
    assert.equal(error.headers.get("retry-after"), "5");
    await assert.rejects(client.videos.downloadContent(first.id), OpenAI.BadRequestError);
    await client.videos.delete(second.id);
    await client.videos.delete(first.id);
    // The client's own retries wait for the places to be free again.
    const patient = new OpenAI({ baseURL, apiKey: "right", maxRetries: 5 });
    assert.equal((await patient.images.generate({ prompt: "a cat" })).data.length, 1);
  },
};

(async () => {
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step();
      console.log("ok " + name);
    } catch (error) {
      console.log("not ok " + name + "\n" + error.stack);
      process.exitCode = 1;
    }
  }
})();
