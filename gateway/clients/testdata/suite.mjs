// What an app does with @supabase/supabase-js, step by step, and what it must get. It runs in Node and in browsers.
//
// run({createClient, env, options, report}): env is what suite_test.go says (type environment), options go to every client, report(name, fault)
// is called after each step; fault is null when all went well.

export async function run({createClient, env, options = {}, report}) {
  const {ada, bob, cleo} = env.users;
  let clients = 0;
  const connect = (key, auth = {}) => createClient(env.url, key, {
    ...options,
    // Each client keeps a session of its own.
    auth: {persistSession: true, storageKey: `client-${++clients}`, storage: memory(), autoRefreshToken: false, detectSessionInUrl: false, ...auth},
  });
  const signIn = async (person) => {
    const client = connect(env.anonKey);
    fine(await client.auth.signInWithPassword({email: person.email, password: person.password}));
    return client;
  };

  const step = async (name, act) => {
    let fault = null;
    try {
      await act();
    } catch (error) {
      fault = error?.stack ?? String(error);
    }
    report(name, fault);
  };

  const anon = connect(env.anonKey);
  const image = (more = {}) => ({project_id: ada.project, tool_id: 'image-generation', input: {prompt: 'a lighthouse', ...more}});
  let app; // Ada's
  let bobs;
  let cleos;
  const gpu = connect(env.workerToken); // a worker's personal access token as key

  // --- Sign-in

  await step('sign-in with a wrong password is refused', async () => {
    const {data, error} = await anon.auth.signInWithPassword({email: ada.email, password: 'not this one'});
    same(error?.status, 400);
    same(error?.code, 'invalid_credentials');
    same(data.session, null);
  });
  await step('sign-in with a password', async () => {
    app = connect(env.anonKey);
    const events = [];
    const {data: {subscription}} = app.auth.onAuthStateChange((event) => { events.push(event); });
    const {session, user} = fine(await app.auth.signInWithPassword({email: ada.email, password: ada.password}));
    same(user.id, ada.id);
    same(user.email, ada.email);
    same(session.token_type, 'bearer');
    check(session.expires_in > 0 && session.expires_at > Date.now() / 1000, 'the session ends in the future', session);
    await until(() => events.includes('SIGNED_IN'), () => events);
    subscription.unsubscribe();
    bobs = await signIn(bob);
    cleos = await signIn(cleo);
  });
  await step('getUser and getSession', async () => {
    same(fine(await app.auth.getUser()).user.id, ada.id);
    same(fine(await app.auth.getSession()).session.user.email, ada.email);
    const {data, error} = await anon.auth.getUser('not a token');
    check(error && !data.user, 'a token that is none', data);
  });
  await step('refreshSession gives new tokens', async () => {
    const before = fine(await app.auth.getSession()).session;
    const {session} = fine(await app.auth.refreshSession());
    check(session.refresh_token !== before.refresh_token, 'a new refresh token');
    same(fine(await app.auth.getUser()).user.id, ada.id);
    const {error} = await connect(env.anonKey).auth.refreshSession({refresh_token: 'not one'});
    check(error, 'a refresh token that is none');
  });
  await step('setSession carries a session to another client', async () => {
    const {session} = fine(await app.auth.getSession());
    const other = connect(env.anonKey);
    fine(await other.auth.setSession({access_token: session.access_token, refresh_token: session.refresh_token}));
    same(fine(await other.rpc('get_credits')).owner_id, ada.id);
  });
  await step('signUp makes a user who can begin', async () => {
    const fresh = connect(env.anonKey);
    const {session, user} = fine(await fresh.auth.signUp({email: `new-${crypto.randomUUID()}@example.com`, password: 'correct horse battery'}));
    check(session?.access_token, 'signed in at once', session);
    const project = fine(await fresh.from('projects').insert({name: 'my first'}).select().single());
    same(project.owner_id, user.id);
    same(fine(await fresh.rpc('get_credits')).available, 0);
  });

  // --- Tables

  let task;
  await step('the insert of the spec', async () => {
    const result = await app.from('tasks').insert({
      project_id: ada.project,
      tool_id: 'image-generation',
      task_type: 'single_image',
      params: {prompt: 'a lighthouse', shot_id: ada.shot},
      cost: 0.5,
      status: 'Queued',
      generation_created: false,
    });
    fine(result);
    same(result.status, 201);
    same(result.data, null);
  });
  await step('insert, select, single', async () => {
    task = fine(await app.from('tasks').insert({project_id: ada.project, task_type: 'single_image', params: {prompt: 'a boat', shot_id: ada.shot}, cost: 0}).select().single());
    same(task.status, 'Queued');
    same(task.cost, 1, 'the price is the server\'s');
    same(task.owner_id, ada.id);
  });
  await step('insert of several', async () => {
    const rows = fine(await app.from('shots').insert([{project_id: ada.project, name: 'one'}, {project_id: ada.project, name: 'two'}]).select('id,name').order('name'));
    same(rows.map((row) => row.name), ['one', 'two']);
    same(Object.keys(rows[0]).sort(), ['id', 'name']);
  });
  await step('the check list of the spec', async () => {
    const {data, error, status} = await app.from('tasks').select('id, status, task_type, generation_created, error_message').eq('id', task.id);
    check(!error, 'no error', error);
    same(status, 200);
    same(data, [{id: task.id, status: 'Queued', task_type: 'single_image', generation_created: false, error_message: null}]);
    same(fine(await app.from('generations').select('*').contains('tasks', JSON.stringify([task.id]))), []);
  });
  await step('filters', async () => {
    const shots = fine(await app.from('shots').insert(['f-a', 'f-b', 'f-c, (d)', 'g%'].map((name) => ({project_id: ada.project, name}))).select());
    const names = async (filter) => fine(await filter(app.from('shots').select('name').eq('project_id', ada.project)).order('name')).map((row) => row.name);
    same(await names((q) => q.eq('name', 'f-a')), ['f-a']);
    same(await names((q) => q.eq('name', 'f-c, (d)')), ['f-c, (d)']);
    same(await names((q) => q.in('name', ['f-a', 'f-c, (d)', 'none'])), ['f-a', 'f-c, (d)']);
    same(await names((q) => q.like('name', 'f-%')), ['f-a', 'f-b', 'f-c, (d)']);
    same(await names((q) => q.ilike('name', 'F-B')), ['f-b']);
    same(await names((q) => q.like('name', 'f-%').neq('name', 'f-b')), ['f-a', 'f-c, (d)']);
    same(await names((q) => q.gt('name', 'f-a').lte('name', 'f-b')), ['f-b']);
    same(await names((q) => q.gte('name', 'f-a').lt('name', 'f-b')), ['f-a']);
    same(await names((q) => q.or('name.eq.f-a,name.eq.f-b')), ['f-a', 'f-b']);
    same(await names((q) => q.match({project_id: ada.project, name: 'f-b'})), ['f-b']);
    same(await names((q) => q.like('name', 'f-%').not('name', 'in', '(f-a,f-b)')), ['f-c, (d)']);
    same(await names((q) => q.like('name', 'f-%').not('name', 'eq', 'f-a').limit(1)), ['f-b']);
    same(await names((q) => q.eq('id', shots[0].id).is('id', null)), []);
    same(fine(await app.from('tasks').select('id').eq('id', task.id).is('worker_id', null).is('generation_created', false)), [{id: task.id}]);
    same(fine(await app.from('tasks').select('id').contains('params', {prompt: 'a boat'})), [{id: task.id}]);
    const waiting = fine(await app.from('tasks').insert({project_id: ada.project, task_type: 'single_image', params: {prompt: 'later'}, dependant_on: [task.id]}).select().single());
    same(fine(await app.from('tasks').select('id').contains('dependant_on', [task.id])), [{id: waiting.id}]);
  });
  await step('order, limit, range', async () => {
    const query = () => app.from('shots').select('name').like('name', 'f-%').eq('project_id', ada.project);
    same(fine(await query().order('name', {ascending: false}).limit(2)).map((row) => row.name), ['f-c, (d)', 'f-b']);
    same(fine(await query().order('name').range(1, 1)).map((row) => row.name), ['f-b']);
    same(fine(await query().order('project_id').order('name', {ascending: false, nullsFirst: false}).range(0, 0)).map((row) => row.name), ['f-c, (d)']);
  });
  await step('count', async () => {
    const all = await app.from('shots').select('*', {count: 'exact', head: true}).like('name', 'f-%');
    fine(all);
    same([all.count, all.data], [3, null]);
    const page = await app.from('shots').select('name', {count: 'exact'}).like('name', 'f-%').order('name').range(0, 1);
    same([page.count, fine(page).length], [3, 2]);
    const none = await app.from('shots').select('name', {count: 'exact'}).eq('name', 'none');
    same([none.count, fine(none)], [0, []]);
  });
  await step('single and maybeSingle', async () => {
    same(fine(await app.from('tasks').select('id').eq('id', task.id).single()).id, task.id);
    same(fine(await app.from('tasks').select('id').eq('id', task.id).maybeSingle()).id, task.id);
    same(fine(await app.from('tasks').select('id').eq('id', env.unknown).maybeSingle()), null);
    for (const query of [app.from('tasks').select('id').eq('id', env.unknown).single(), app.from('shots').select('id').like('name', 'f-%').single()]) {
      const {data, error, status} = await query;
      same([data, error?.code, status], [null, 'PGRST116', 406]);
    }
  });
  await step('update, upsert, delete of shots', async () => {
    const shot = fine(await app.from('shots').insert({project_id: ada.project, name: 'before'}).select().single());
    const moved = await app.from('shots').update({project_id: env.unknown}).eq('id', shot.id);
    same([moved.status, moved.error?.code], [403, 'TD041']);
    same(fine(await app.from('shots').update({name: 'after'}).eq('id', shot.id).select('name')), [{name: 'after'}]);
    const blind = await app.from('shots').update({name: 'blind'}).eq('id', shot.id);
    fine(blind);
    same([blind.status, blind.data], [204, null]);
    same(fine(await app.from('shots').upsert({id: shot.id, project_id: ada.project, name: 'upserted'}).select().single()).name, 'upserted');
    const id = crypto.randomUUID();
    same(fine(await app.from('shots').upsert([{id, project_id: ada.project, name: 'made'}], {onConflict: 'id'}).select('name')), [{name: 'made'}]);
    fine(await app.from('shots').upsert({id, project_id: ada.project, name: 'ignored'}, {onConflict: 'id', ignoreDuplicates: true}));
    same(fine(await app.from('shots').select('name').eq('id', id).single()).name, 'made');
    same(fine(await app.from('shots').delete().eq('id', id).select('id')), [{id}]);
    const gone = await app.from('shots').delete().eq('id', shot.id);
    fine(gone);
    same(gone.status, 204);
    same(fine(await app.from('shots').select().in('id', [id, shot.id])), []);
  });
  await step('generations and their places in shots', async () => {
    const upload = `${env.url}/storage/v1/object/public/image_uploads/${ada.id}/own.png`;
    const made = fine(await app.from('generations').insert({project_id: ada.project, type: 'image', location: upload, params: {source: 'upload'}}).select().single());
    same(made.owner_id, ada.id);
    same(fine(await app.from('generations').update({metadata: {starred: true}}).eq('id', made.id).select('metadata').single()), {metadata: {starred: true}});
    same(fine(await app.from('generations').select('id').contains('metadata', {starred: true})), [{id: made.id}]);
    const link = fine(await app.from('shot_generations').insert({shot_id: ada.shot, generation_id: made.id, position: 3}).select().single());
    same(fine(await app.from('shot_generations').update({position: null}).eq('id', link.id).select('position').single()), {position: null});
    same(fine(await app.from('shot_generations').select('generation_id').eq('shot_id', ada.shot).is('position', null)), [{generation_id: made.id}]);
    same(fine(await app.from('shot_generations').upsert({id: link.id, shot_id: ada.shot, generation_id: made.id, position: 0}).select('position').single()), {position: 0});
    fine(await app.from('shot_generations').delete().eq('id', link.id));
    fine(await app.from('generations').delete().eq('id', made.id));
    same(fine(await app.from('generations').select('id').eq('id', made.id)), []);
  });

  // --- Errors of tables

  await step('insufficient credits', async () => {
    const row = {project_id: cleo.project, tool_id: 'image-generation', task_type: 'single_image', params: {prompt: 'a'}, cost: 0, status: 'Queued', generation_created: false};
    const {data, error, status} = await cleos.from('tasks').insert(row);
    same([data, status, error?.code, error?.message], [null, 402, 'TD010', 'Insufficient credits']);
    check(error.details.includes('credits') && error.hint, 'details and hint', error);
  });
  await step('a task is changed by the functions only', async () => {
    const {error, status} = await app.from('tasks').update({status: 'Complete', output_location: 'https://example.com/x.png'}).eq('id', task.id);
    same([status, error?.code], [403, '42501']);
    const gone = await app.from('tasks').delete().eq('id', task.id);
    same([gone.status, gone.error?.code], [403, '42501']);
    same(fine(await app.from('tasks').select('status').eq('id', task.id).single()).status, 'Queued');
  });
  await step('what is not there is named', async () => {
    const table = await app.from('nowhere').select();
    same([table.status, table.error?.code], [404, 'PGRST205']);
    const column = await app.from('tasks').select('id, nothing');
    same([column.status, column.error?.code], [400, '42703']);
    const inBody = await app.from('shots').insert({project_id: ada.project, nothing: 1});
    same([inBody.status, inBody.error?.code], [400, 'PGRST204']);
    const fn = await app.rpc('nothing', {a: 1});
    same([fn.status, fn.error?.code], [404, 'PGRST202']);
    const word = await app.from('tasks').select().eq('id', 'no uuid');
    same([word.status, word.error?.code], [400, '22P02']);
    const embedded = await app.from('generations').select('*, shot_generations(*)');
    check(embedded.error?.message && embedded.status >= 400, 'an embedded select is refused, not ignored', embedded);
    check(/shot_generations|embed/i.test(JSON.stringify(embedded.error)), 'the refusal names it', embedded.error);
  });

  // --- Functions of the database

  await step('rpc', async () => {
    same(fine(await anon.rpc('calculate_task_cost', {tool_id: 'travel-between-images', input: {orchestrator_details: {num_new_segments_to_generate: 3}}})), 15);
    const created = fine(await app.rpc('create_task', image({shot_id: ada.shot})));
    same([created.status, created.cost], ['Queued', 1]);
    same(fine(await app.rpc('get_task', {task_id: created.id})).id, created.id);
    same(fine(await app.rpc('get_task', {task_id: created.id}, {get: true})).id, created.id);
    same(fine(await app.rpc('cancel_task', {task_id: created.id, reason: 'enough'})).status, 'Cancelled');
    same(fine(await app.rpc('get_credits')).owner_id, ada.id);
    same(fine(await app.rpc('list_generations', {project_id: ada.project})), []);
    const many = fine(await app.rpc('create_tasks', {tasks: [image(), image()]}));
    same(many.map((made) => made.status), ['Queued', 'Queued']);
    for (const made of many) fine(await app.rpc('cancel_task', {task_id: made.id}));
  });
  await step('rpc with what the client adds', async () => {
    const some = fine(await app.rpc('list_access_tokens').select('id,label').eq('label', 'none').order('created_at').limit(5));
    same(some, []);
    same(fine(await app.rpc('get_credits').single()).owner_id, ada.id);
  });
  await step('rpc refuses with code and message', async () => {
    for (const [client, name, args, status, code, message] of [
      [cleos, 'create_task', {...image(), project_id: cleo.project}, 402, 'TD010', 'Insufficient credits'],
      [app, 'create_task', {...image(), tool_id: 'unknown'}, 400, 'TD002', 'Unknown task type'],
      [app, 'create_task', {...image(), input: {}}, 400, 'TD001', 'Missing required fields'],
      [app, 'get_task', {task_id: env.unknown}, 404, 'TD021', 'Task not found'],
      [app, 'create_task', {...image(), project_id: env.unknown}, 404, 'TD020', 'Project not found'],
    ]) {
      const result = await client.rpc(name, args);
      same([result.data, result.status, result.error?.code, result.error?.message], [null, status, code, message], name);
    }
    const denied = await app.rpc('claim_next_task', {worker_id: 'me'});
    same([denied.status, denied.error?.code], [403, '42501']);
    const nobody = await anon.rpc('create_task', image());
    same([nobody.status, nobody.error?.code], [401, '42501']);
  });

  // --- Functions

  let done;
  await step('functions.invoke, from create to the gallery', async () => {
    same(fine(await app.functions.invoke('calculate-task-cost', {body: {tool_id: 'image-generation', input: {prompt: 'a'}}})).cost, 1);
    for (const row of fine(await app.from('tasks').select('id').eq('status', 'Queued').order('created_at', {ascending: false}))) fine(await app.rpc('cancel_task', {task_id: row.id}));
    const created = fine(await app.functions.invoke('create_task', {body: image({shot_id: ada.shot})}));
    same(created.status, 'Queued');
    const claim = fine(await gpu.functions.invoke('claim_next_task', {body: {worker_id: 'gpu-1'}}));
    same([claim.task_id, claim.task_type, claim.params.prompt], [created.id, 'single_image', 'a lighthouse']);
    const location = `https://files.example.com/${claim.task_id}.png`;
    const body = {task_id: claim.task_id, output_location: location, metadata: {seed: 7}, worker_id: claim.worker_id, attempt: claim.attempt};
    for (const name of ['process-completed-task', 'process_completed_task']) { // a repeat answers as before
      fine(await gpu.functions.invoke(name, {body}));
    }
    done = fine(await app.from('tasks').select().eq('id', created.id).single());
    same([done.status, done.output_location, done.generation_created, done.metadata], ['Complete', location, true, {seed: 7}]);
    const generation = fine(await app.from('generations').select('*').contains('tasks', JSON.stringify([created.id])).single());
    same([generation.location, generation.type], [location, 'image']);
    same(fine(await app.from('shot_generations').select('shot_id,position').eq('generation_id', generation.id)), [{shot_id: ada.shot, position: null}]);
    same(fine(await app.rpc('list_generations', {project_id: ada.project, shot_id: ada.shot})).length, 1);
    same(fine(await app.rpc('get_credits')), {owner_id: ada.id, balance: 99, held: 0, available: 99});
  });
  await step('functions.invoke refuses with code and message', async () => {
    const refused = async (client, name, body, status, code) => {
      const {data, error} = await client.functions.invoke(name, {body});
      same([data, error?.name, error?.context?.status], [null, 'FunctionsHttpError', status], name);
      const said = await error.context.json();
      same(said.code, code);
      return said;
    };
    same((await refused(cleos, 'create_task', {...image(), project_id: cleo.project}, 402, 'TD010')).message, 'Insufficient credits');
    await refused(app, 'create-task', {...image(), input: {}}, 400, 'TD001');
    await refused(bobs, 'create_task', image(), 404, 'TD020');
    await refused(app, 'nothing', {}, 404, 'GW004');
  });
  await step('a plain fetch, as the app does it', async () => {
    const {session} = fine(await app.auth.getSession());
    const response = await fetch(`${env.url}/functions/v1/create-task`, {
      method: 'POST',
      headers: {Authorization: `Bearer ${session.access_token}`, 'Content-Type': 'application/json'},
      body: JSON.stringify(image()),
    });
    same(response.status, 200);
    const created = await response.json();
    same(created.status, 'Queued');
    fine(await app.functions.invoke('cancel_task', {body: {task_id: created.id}}));
  });
  await step('a worker fails a task', async () => {
    const created = fine(await app.functions.invoke('create_task', {body: image()}));
    const claim = fine(await gpu.functions.invoke('claim-next-task', {body: {worker_id: 'gpu-1'}}));
    same(claim.task_id, created.id);
    fine(await gpu.functions.invoke('fail_task', {body: {task_id: claim.task_id, error_message: 'out of memory', worker_id: claim.worker_id, attempt: claim.attempt}}));
    const failed = fine(await app.from('tasks').select('status,error_message').eq('id', created.id).single());
    same(failed, {status: 'Failed', error_message: 'out of memory'});
    same(fine(await app.rpc('get_credits')).available, 99);
  });

  // --- Storage

  const own = (name) => `${ada.id}/${name}`;
  const files = () => app.storage.from('image_uploads');
  await step('upload of a file and its way back', async () => {
    const file = new File([png(1)], 'lighthouse.png', {type: 'image/png'});
    const data = fine(await files().upload(own('pictures/lighthouse.png'), file, {cacheControl: '3600'}));
    same([data.path, data.fullPath], [own('pictures/lighthouse.png'), `image_uploads/${own('pictures/lighthouse.png')}`]);
    const {data: {publicUrl}} = files().getPublicUrl(data.path);
    const response = await fetch(publicUrl);
    same([response.status, response.headers.get('content-type')], [200, 'image/png']);
    same(bytes(await response.arrayBuffer()), bytes(png(1)));
    const part = await fetch(publicUrl, {headers: {Range: 'bytes=1-3'}});
    same([part.status, await part.text()], [206, 'PNG']);
    same(bytes(await fine(await files().download(data.path)).arrayBuffer()), bytes(png(1)));
    const task = fine(await app.rpc('create_task', image({input_image: publicUrl})));
    fine(await app.rpc('cancel_task', {task_id: task.id}));
  });
  await step('upload of bytes, replace, upsert', async () => {
    const path = own('pictures/raw.png');
    fine(await files().upload(path, png(2), {contentType: 'image/png'}));
    const again = await files().upload(path, png(3), {contentType: 'image/png'});
    check(again.error?.message, 'a second upload is refused', again);
    same(String(again.error.statusCode), '409');
    same(bytes(await fine(await files().download(path)).arrayBuffer()), bytes(png(2)));
    fine(await files().upload(path, png(3), {contentType: 'image/png', upsert: true}));
    same(bytes(await fine(await files().download(path)).arrayBuffer()), bytes(png(3)));
    fine(await files().update(path, new Blob([png(4)], {type: 'image/png'})));
    same(bytes(await fine(await files().download(path)).arrayBuffer()), bytes(png(4)));
  });
  await step('list', async () => {
    const list = fine(await files().list(own('pictures')));
    same(list.map((entry) => entry.name).sort(), ['lighthouse.png', 'raw.png']);
    same(list[0].metadata.mimetype, 'image/png');
    check(fine(await files().list(ada.id)).some((entry) => entry.name === 'pictures'), 'folders are listed');
    same(fine(await files().list(own('pictures'), {limit: 1, offset: 1, sortBy: {column: 'name', order: 'asc'}})).map((entry) => entry.name), ['raw.png']);
    same(fine(await files().list(own('pictures'), {search: 'light'})).map((entry) => entry.name), ['lighthouse.png']);
  });
  await step('signed URLs', async () => {
    const {signedUrl} = fine(await files().createSignedUrl(own('pictures/raw.png'), 60));
    const response = await fetch(signedUrl);
    same(response.status, 200);
    same(bytes(await response.arrayBuffer()), bytes(png(4)));
    check((await fetch(signedUrl.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A')))).status >= 400, 'another signature is refused');
    const download = fine(await files().createSignedUrl(own('pictures/raw.png'), 60, {download: 'mine.png'}));
    check((await fetch(download.signedUrl)).ok, 'as a download');
    const many = fine(await files().createSignedUrls([own('pictures/raw.png'), own('pictures/none.png')], 60));
    same(many.map((entry) => [entry.path, !entry.error]), [[own('pictures/raw.png'), true], [own('pictures/none.png'), false]]);
    same((await fetch(many[0].signedUrl)).status, 200);
  });
  await step('an upload by a signed URL', async () => {
    const path = own('pictures/by-url.png');
    const {token, signedUrl} = fine(await files().createSignedUploadUrl(path));
    check(signedUrl.includes(token), 'the URL holds the token');
    // Whoever has the token may upload, signed in or not.
    fine(await anon.storage.from('image_uploads').uploadToSignedUrl(path, token, new File([png(5)], 'x.png', {type: 'image/png'})));
    same(bytes(await fine(await files().download(path)).arrayBuffer()), bytes(png(5)));
    const elsewhere = await anon.storage.from('image_uploads').uploadToSignedUrl(own('pictures/other.png'), token, new File([png(5)], 'x.png', {type: 'image/png'}));
    check(elsewhere.error, 'the token is for one path', elsewhere);
  });
  await step('storage refuses what is not there and what is not yours', async () => {
    check((await files().download(own('none.png'))).error, 'no such file');
    const wrong = await app.storage.from('nowhere').upload(own('a.png'), png(1), {contentType: 'image/png'});
    check(wrong.error?.message, 'no such bucket', wrong);
    const other = await bobs.storage.from('image_uploads').upload(own('pictures/bob.png'), png(1), {contentType: 'image/png'});
    check(other.error?.message, 'Bob writes into his own folder', other);
    same((await bobs.storage.from('image_uploads').list(own('pictures'))).data ?? [], []);
    const removed = await bobs.storage.from('image_uploads').remove([own('pictures/raw.png')]);
    same(removed.data ?? [], []);
    check(!(await files().download(own('pictures/raw.png'))).error, 'it is still there');
    const nobody = await anon.storage.from('image_uploads').upload(own('pictures/anon.png'), png(1), {contentType: 'image/png'});
    check(nobody.error?.message, 'nobody uploads', nobody);
  });
  await step('remove', async () => {
    const paths = [own('pictures/raw.png'), own('pictures/by-url.png')];
    same(fine(await files().remove(paths)).map((entry) => entry.name).sort(), [...paths].sort());
    check((await files().download(paths[0])).error, 'it is gone');
    same(fine(await files().list(own('pictures'))).map((entry) => entry.name), ['lighthouse.png']);
  });

  // --- Others

  await step('two users do not see each other', async () => {
    for (const table of ['projects', 'shots', 'tasks', 'generations', 'shot_generations', 'credit_ledger', 'users']) {
      const rows = fine(await bobs.from(table).select());
      const owned = rows.filter((row) => JSON.stringify(row).includes(ada.id) || JSON.stringify(row).includes(ada.project));
      same(owned, [], table);
      check(fine(await app.from(table).select()).length > 0, `Ada sees her own ${table}`);
    }
    same(fine(await bobs.from('tasks').select().eq('id', done.id)), []);
    same(fine(await bobs.from('shots').update({name: 'mine'}).eq('id', ada.shot).select()), []);
    same(fine(await bobs.from('shots').delete().eq('id', ada.shot).select()), []);
    const inserted = await bobs.from('shots').insert({project_id: ada.project, name: 'mine'});
    same([inserted.status, inserted.error?.code], [403, '42501']);
    const task = await bobs.from('tasks').insert({project_id: ada.project, task_type: 'single_image', params: {prompt: 'a'}});
    same([task.status, task.error?.code], [404, 'TD020']);
    same((await bobs.rpc('get_task', {task_id: done.id})).error?.code, 'TD021');
    same(fine(await app.from('shots').select('id').eq('id', ada.shot)), [{id: ada.shot}]);
  });
  await step('nobody sees only what everybody may', async () => {
    check(fine(await anon.from('task_types').select('name')).length >= 4, 'task types');
    for (const table of ['tasks', 'projects', 'users']) {
      const {error, status} = await anon.from(table).select();
      same([status, error?.code], [401, '42501'], table);
    }
    const stranger = await connect('not a key').from('task_types').select();
    same(stranger.status, 401);
  });
  await step('signOut', async () => {
    const {session} = fine(await app.auth.getSession());
    const {error} = await app.auth.signOut();
    check(!error, 'no error', error);
    same(fine(await app.auth.getSession()).session, null);
    same((await app.from('tasks').select()).status, 401, 'the client is nobody again');
    const again = await connect(env.anonKey).auth.refreshSession({refresh_token: session.refresh_token});
    check(again.error, 'the session is over', again.data);
  });

  for (const client of [anon, app, bobs, cleos, gpu]) client?.realtime?.disconnect?.();
}

// fine returns the data of a result, which must be no error.
export function fine(result) {
  if (result.error) {
    const {error} = result;
    throw new Error(`refused: ${result.status ?? error.status ?? error.context?.status ?? ''} ${JSON.stringify({name: error.name, message: error.message, ...error})}`);
  }
  return result.data;
}

export function check(good, what, seen) {
  if (!good) throw new Error(`${what}: ${JSON.stringify(seen)}`);
}

export function same(got, want, what = 'got') {
  const [a, b] = [canonical(got), canonical(want)];
  if (a !== b) throw new Error(`${what}: ${a}, want ${b}`);
}

// canonical is a value as JSON, with the keys of objects in order.
export function canonical(value) {
  return JSON.stringify(value, (key, inner) => (inner && typeof inner === 'object' && !Array.isArray(inner)
    ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1))) : inner)) ?? 'undefined';
}

async function until(condition, seen) {
  const end = Date.now() + 5000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`it never came: ${JSON.stringify(seen())}`);
    await new Promise((resolve) => { setTimeout(resolve, 10); });
  }
}

// memory keeps a client's session.
export function memory() {
  const kept = new Map();
  return {getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => { kept.set(key, value); }, removeItem: (key) => { kept.delete(key); }};
}

const bytes = (buffer) => Array.from(new Uint8Array(buffer));

// png is a picture of one pixel, another for each number.
function png(number) {
  const head = Uint8Array.from(atob('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='), (c) => c.charCodeAt(0));
  const all = new Uint8Array(head.length + 1);
  all.set(head);
  all[head.length] = number; // after the end of the picture
  return all;
}
