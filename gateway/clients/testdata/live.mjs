// What an app does with the realtime of @supabase/supabase-js, step by step, and what it must get. It runs in Node and in browsers, as suite.mjs does.

import {check, fine, memory, same} from './suite.mjs';
import {events} from './stream.mjs';

export async function run({createClient, env, options = {}, report}) {
  const {ada, bob} = env.users;
  let clients = 0;
  const opened = [];
  const connect = (more = {}, key = env.anonKey) => {
    const {auth, ...rest} = more;
    const client = createClient(env.url, key, {
      ...options, ...rest,
      auth: {persistSession: true, storageKey: `live-${++clients}`, storage: memory(), autoRefreshToken: false, detectSessionInUrl: false, ...auth},
    });
    opened.push(client);
    return client;
  };
  const signIn = async (person) => {
    const client = connect();
    fine(await client.auth.signInWithPassword({email: person.email, password: person.password}));
    return client;
  };
  const tokenFor = (person, seconds) => sign(env.jwtSecret, {iss: 'tests', sub: person.id, role: 'authenticated', exp: Math.floor(Date.now() / 1000) + seconds});

  // holder is a client of an app that has its tokens from elsewhere. renew(token) gives it another.
  const holder = async (person, seconds = 3600) => {
    let token = await tokenFor(person, seconds);
    const client = createClient(env.url, env.anonKey, {...options, accessToken: async () => token});
    opened.push(client);
    await client.realtime.setAuth();
    return {client, renew: async (next) => { token = await tokenFor(person, next); await client.realtime.setAuth(); }};
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

  const app = await signIn(ada);
  const bobs = await signIn(bob);
  const gpu = connect({}, env.workerToken);
  const finish = async (image = {prompt: 'a lighthouse'}) => {
    const created = fine(await app.functions.invoke('create_task', {body: {project_id: ada.project, tool_id: 'image-generation', input: image}}));
    const claim = fine(await gpu.functions.invoke('claim_next_task', {body: {worker_id: 'gpu-1'}}));
    same(claim.task_id, created.id);
    const location = `https://files.example.com/${created.id}.png`;
    fine(await gpu.functions.invoke('complete_task', {body: {task_id: created.id, output_location: location, worker_id: claim.worker_id, attempt: claim.attempt}}));
    return {id: created.id, location};
  };
  const shot = async (name, client = app, person = ada) => fine(await client.from('shots').insert({project_id: person.project, name}).select().single());
  const every = {event: '*', schema: 'public'};

  // --- The channel of the spec

  await step('the channel of the spec', async () => {
    const supabase = app;
    const projectId = ada.project;
    const shotId = ada.shot;
    const invalidated = [];
    const queryClient = {invalidateQueries: (key) => { invalidated.push(key); }};
    let channel;
    {
      /* eslint-disable */
      channel = supabase
        .channel('projects-updates')
        .on('postgres_changes', {
          event: '*',
          schema: 'public',
          table: 'generations',
          filter: `project_id=eq.${projectId}`
        }, (payload) => {
          // Invalidate React Query caches
          queryClient.invalidateQueries(['generations', projectId]);
          queryClient.invalidateQueries(['unified-generations', 'shot', shotId]);
        })
        .subscribe();
      /* eslint-enable */
    }
    await until(() => channel.state === 'joined', () => channel.state);
    await finish({prompt: 'a lighthouse', shot_id: ada.shot});
    await until(() => invalidated.length >= 2, () => invalidated);
    same(invalidated, [['generations', ada.project], ['unified-generations', 'shot', ada.shot]]);
    await app.removeChannel(channel);
  });

  // --- An app's own channel: 8 bindings with a filter, 6 without

  await step('a channel with 14 bindings', async () => {
    const filter = `project_id=eq.${ada.project}`;
    const bindings = [
      ...['INSERT', 'UPDATE'].map((event) => ({event, schema: 'public', table: 'tasks', filter})),
      ...['INSERT', 'UPDATE', 'DELETE'].map((event) => ({event, schema: 'public', table: 'generations', filter})),
      ...['INSERT', 'UPDATE', 'DELETE'].map((event) => ({event, schema: 'public', table: 'shots', filter})),
      ...['INSERT', 'UPDATE', 'DELETE'].map((event) => ({event, schema: 'public', table: 'shot_generations'})),
      ...['INSERT', 'UPDATE', 'DELETE'].map((event) => ({event, schema: 'public', table: 'credit_ledger'})),
    ];
    same(bindings.length, 14);
    const client = await signIn(ada);
    await client.realtime.setAuth(fine(await client.auth.getSession()).session.access_token); // before the subscription, as the app does
    const heard = [];
    const statuses = [];
    const channel = client.channel(`task-updates:${ada.project}`);
    bindings.forEach((binding, nth) => channel.on('postgres_changes', binding, (payload) => heard.push({nth, payload})));
    channel.subscribe((status, error) => statuses.push([status, error?.message]));
    await until(() => statuses.length > 0, () => statuses);
    same(statuses, [['SUBSCRIBED', undefined]]);
    const done = await finish();
    const made = await shot('one');
    fine(await app.from('shots').update({name: 'two'}).eq('id', made.id));
    const generation = fine(await app.from('generations').select('id').contains('tasks', JSON.stringify([done.id])).single());
    fine(await app.from('generations').update({metadata: {seen: true}}).eq('id', generation.id));
    const placed = fine(await app.from('shot_generations').insert({shot_id: made.id, generation_id: generation.id, position: 1}).select().single());
    fine(await app.from('shot_generations').update({position: 2}).eq('id', placed.id));
    fine(await app.from('shot_generations').delete().eq('id', placed.id));
    fine(await app.from('generations').delete().eq('id', generation.id));
    fine(await app.from('shots').delete().eq('id', made.id));
    await until(() => heard.some(({payload}) => payload.table === 'shots' && payload.eventType === 'DELETE'), () => heard.length);
    for (const {nth, payload} of heard) same([payload.table, payload.eventType], [bindings[nth].table, bindings[nth].event], `the binding ${nth}`);
    const seen = (table, id) => heard.filter(({payload: p}) => p.table === table && (p.new.id ?? p.old.id) === id).map(({payload}) => payload.eventType);
    same(seen('shots', made.id), ['INSERT', 'UPDATE', 'DELETE']);
    same(seen('shot_generations', placed.id), ['INSERT', 'UPDATE', 'DELETE']);
    same(seen('generations', generation.id), ['INSERT', 'UPDATE', 'DELETE']);
    const states = heard.filter(({payload: p}) => p.table === 'tasks' && p.new.id === done.id).map(({payload}) => payload.new.status);
    same(states.filter((status, nth) => status !== states[nth - 1]), ['Queued', 'In Progress', 'Complete']);
    const entries = heard.filter(({payload: p}) => p.table === 'credit_ledger' && p.new.task_id === done.id).map(({payload}) => payload.new.kind);
    same(entries, ['hold', 'settle']);
    await client.removeAllChannels();
  });

  // --- Rows and filters

  await step('events carry rows as REST answers them', async () => {
    const rows = listen(app, 'rows', [{...every, table: 'shots'}, {...every, table: 'shot_generations'}, {...every, table: 'generations'}, {...every, table: 'tasks'}]);
    await rows.joined();
    const made = await shot('before');
    fine(await app.from('shots').update({name: 'after'}).eq('id', made.id));
    const done = await finish({prompt: 'a "quoted" \\ prompt, ünïcode 🙂', list: [1, null, 2.5]});
    const generation = fine(await app.from('generations').select().contains('tasks', JSON.stringify([done.id])).single());
    const placed = fine(await app.from('shot_generations').insert({shot_id: made.id, generation_id: generation.id, position: 7}).select().single());
    fine(await app.from('shots').delete().eq('id', made.id)); // and what lay in it
    const of = (table, type, id) => rows.heard.filter((p) => p.table === table && p.eventType === type && (p.new.id ?? p.old.id) === id);
    await until(() => of('shot_generations', 'DELETE', placed.id).length && of('shots', 'DELETE', made.id).length, () => rows.heard);

    const [inserted] = of('shots', 'INSERT', made.id);
    same([inserted.schema, inserted.errors], ['public', null]);
    check(!Number.isNaN(Date.parse(inserted.commit_timestamp)), 'a time', inserted.commit_timestamp);
    same(inserted.new, made);
    same(inserted.old, {});
    const [updated] = of('shots', 'UPDATE', made.id);
    same(updated.new, {...made, name: 'after'});
    same(updated.old, {id: made.id});
    const [deleted] = of('shots', 'DELETE', made.id);
    same(deleted.new, {});
    same(deleted.old, {...made, name: 'after'});
    same(of('shot_generations', 'INSERT', placed.id)[0].new, placed);
    same(of('shot_generations', 'INSERT', placed.id)[0].new.position, 7);
    same(of('shot_generations', 'DELETE', placed.id)[0].old, placed);
    same(of('generations', 'INSERT', generation.id)[0].new, generation);
    const task = fine(await app.from('tasks').select().eq('id', done.id).single());
    await until(() => of('tasks', 'UPDATE', done.id).some((p) => p.new.status === 'Complete' && p.new.generation_created), () => of('tasks', 'UPDATE', done.id));
    same(of('tasks', 'UPDATE', done.id).at(-1).new, task);
    same([task.cost, task.params.list], [1, [1, null, 2.5]]);
    await rows.end();
  });

  await step('filters', async () => {
    const names = ['alpha', 'beta', 'Gamma', 'a,b', 'say "hi"', 'x(y)'];
    const wanted = [
      ['name=eq.alpha', ['alpha']],
      ['name=neq.alpha', ['beta', 'Gamma', 'a,b', 'say "hi"', 'x(y)']],
      ['name=in.(alpha,beta)', ['alpha', 'beta']],
      ['name=in.("a,b","x(y)")', ['a,b', 'x(y)']],
      ['name=eq."a,b"', ['a,b']],
      ['name=eq."say \\"hi\\""', ['say "hi"']],
      ['name=gt.alpha', ['beta', 'say "hi"', 'x(y)']],
      ['name=gte.beta', ['beta', 'say "hi"', 'x(y)']],
      ['name=lt.alpha', ['Gamma', 'a,b']],
      ['name=lte.alpha', ['alpha', 'Gamma', 'a,b']],
      ['name=like.%a', ['alpha', 'beta', 'Gamma']],
      ['name=like._eta', ['beta']],
      ['name=ilike.gam%', ['Gamma']],
      ['name=not.like.%a', ['a,b', 'say "hi"', 'x(y)']],
      ['name=match.^[ab]', ['alpha', 'beta', 'a,b']],
      ['name=imatch.^g', ['Gamma']],
      ['name=isdistinct.beta', ['alpha', 'Gamma', 'a,b', 'say "hi"', 'x(y)']],
      ['name=is.null', []],
      ['name=not.is.null', names],
      [`project_id=eq.${ada.project},name=eq.beta`, ['beta']],
      [`name=like.%a,name=not.eq.alpha,project_id=eq.${ada.project}`, ['beta', 'Gamma']],
      [`project_id=eq.${env.unknown}`, []],
      ['created_at=gt.2020-01-01T00:00:00Z', names],
      ['created_at=lt.2020-01-01T00:00:00Z', []],
    ];
    const heard = wanted.map(() => []);
    const channel = app.channel('filters');
    wanted.forEach(([filter], nth) => channel.on('postgres_changes', {event: 'INSERT', schema: 'public', table: 'shots', filter}, (p) => heard[nth].push(p.new.name)));
    let last = false;
    channel.on('postgres_changes', {event: 'DELETE', schema: 'public', table: 'shots', filter: 'name=eq.alpha'}, () => { last = true; }); // of the row as it was
    const positions = [];
    const of = {event: 'INSERT', schema: 'public', table: 'shot_generations'};
    channel.on('postgres_changes', {...of, filter: 'position=gt.9'}, (p) => positions.push(['gt.9', p.new.position]));
    channel.on('postgres_changes', {...of, filter: 'position=in.(2,10)'}, (p) => positions.push(['in', p.new.position]));
    channel.on('postgres_changes', {...of, filter: 'position=is.null'}, (p) => positions.push(['null', p.new.position]));
    channel.on('postgres_changes', {event: 'UPDATE', schema: 'public', table: 'tasks', filter: 'status=eq.Complete'}, (p) => positions.push(['task', p.new.status]));
    channel.on('postgres_changes', {event: 'INSERT', schema: 'public', table: 'tasks', filter: 'cost=lte.1.0'}, (p) => positions.push(['cost', p.new.cost]));
    channel.on('postgres_changes', {event: 'INSERT', schema: 'public', table: 'tasks', filter: 'cost=gt.1'}, (p) => positions.push(['dear', p.new.cost]));
    await subscribed(channel);
    const made = fine(await app.from('shots').insert(names.map((name) => ({project_id: ada.project, name}))).select());
    const done = await finish();
    const generation = fine(await app.from('generations').select('id').contains('tasks', JSON.stringify([done.id])).single());
    for (const position of [2, 9, 10, null]) fine(await app.from('shot_generations').insert({shot_id: ada.shot, generation_id: generation.id, position}));
    fine(await app.from('shots').delete().eq('name', 'beta').eq('project_id', ada.project));
    fine(await app.from('shots').delete().in('id', made.map((row) => row.id)));
    await until(() => last, () => heard);
    wanted.forEach(([filter, names], nth) => same([...heard[nth]].sort(), [...names].sort(), filter));
    same(positions.filter(([what]) => what === 'cost' || what === 'dear'), [['cost', 1]]);
    check(positions.some(([what]) => what === 'task') && positions.every(([what, status]) => what !== 'task' || status === 'Complete'), 'complete tasks', positions);
    same(positions.filter(([what]) => ['gt.9', 'in', 'null'].includes(what)), [['in', 2], ['gt.9', 10], ['in', 10], ['null', null]]);
    await app.removeChannel(channel);
  });

  await step('a schema alone, and all tables by *', async () => {
    const all = listen(app, 'schema', [{...every}]);
    const star = listen(app, 'star', [{...every, table: '*'}]);
    await Promise.all([all.joined(), star.joined()]);
    const made = await shot('for all');
    const done = await finish();
    for (const one of [all, star]) {
      await until(() => one.heard.some((p) => p.table === 'generations') && one.heard.some((p) => p.table === 'credit_ledger' && p.new.kind === 'settle'), () => one.heard);
      same(one.heard.filter((p) => p.table === 'shots').map((p) => p.new.id), [made.id]);
      check(one.heard.some((p) => p.table === 'tasks' && p.new.id === done.id), 'the task');
    }
    await all.end();
    await star.end();
  });

  // --- Broadcasts

  await step('the gateway broadcasts what becomes of tasks', async () => {
    const told = [];
    const channel = app.channel(`task-updates:${ada.project}`).on('broadcast', {event: 'task-update'}, (message) => told.push(message));
    await subscribed(channel);
    const done = await finish();
    await until(() => told.some((message) => message.payload.task.status === 'Complete'), () => told);
    const states = told.map((message) => message.payload.task.status);
    same(states.filter((status, nth) => status !== states[nth - 1]), ['Queued', 'In Progress', 'Complete']);
    for (const message of told) {
      same([message.type, message.event, message.payload.task.id, message.payload.task.project_id], ['broadcast', 'task-update', done.id, ada.project]);
      check(['INSERT', 'UPDATE'].includes(message.payload.change), 'what changed', message.payload.change);
    }
    same(told.at(-1).payload.task.output_location, done.location);
    same(await channel.send({type: 'broadcast', event: 'task-update', payload: {}}), 'ok', 'without ack nobody hears of the refusal');
    await app.removeChannel(channel);
    await bobs.realtime.setAuth(); // the old client sends the token of a session only then, or after its first join
    const other = bobs.channel(`task-updates:${ada.project}`).on('broadcast', {event: 'task-update'}, (message) => told.push(message));
    check(/no such project, or it is not yours/i.test(await refusal(other)), 'Bob is refused');
    await bobs.removeChannel(other);
  });

  await step('broadcasts between the pages of a user', async () => {
    const {client: second} = await holder(ada);
    await bobs.realtime.setAuth();
    const page = (client, config) => {
      const got = [];
      const channel = client.channel('room', {config: {broadcast: config}}).on('broadcast', {event: 'cursor'}, (message) => got.push(message.payload));
      return {channel, got};
    };
    const first = page(app, {ack: true, self: false});
    const other = page(second, {ack: true, self: true});
    const stranger = page(bobs, {ack: false, self: true});
    for (const {channel} of [first, other, stranger]) await subscribed(channel);
    same(await first.channel.send({type: 'broadcast', event: 'cursor', payload: {x: 1}}), 'ok');
    await until(() => other.got.length === 1, () => other.got);
    same(await other.channel.send({type: 'broadcast', event: 'cursor', payload: {x: 2, text: 'ü'}}), 'ok');
    await until(() => other.got.length === 2 && first.got.length === 1, () => [first.got, other.got]);
    if (env.newest) {
      same(await first.channel.httpSend('cursor', {x: 3}), {success: true});
      await until(() => other.got.length === 3 && first.got.length === 2, () => [first.got, other.got]);
      same(await first.channel.send({type: 'broadcast', event: 'cursor', payload: new Uint8Array([1, 2, 255]).buffer}), 'ok');
      await until(() => other.got.length === 4, () => other.got);
      same(Array.from(new Uint8Array(other.got[3])), [1, 2, 255]);
    }
    same(await stranger.channel.send({type: 'broadcast', event: 'cursor', payload: {x: 9}}), 'ok');
    await until(() => stranger.got.length === 1, () => stranger.got);
    same(await first.channel.send({type: 'broadcast', event: 'cursor', payload: {x: 5}}), 'ok');
    await until(() => other.got.some((payload) => payload.x === 5), () => other.got);
    same(first.got.map(({x}) => x), env.newest ? [2, 3] : [2], 'not its own, and not Bob\'s');
    check(!other.got.some((payload) => payload.x === 9), 'what Bob says');
    same(stranger.got, [{x: 9}], 'what Bob hears');
    for (const [client, {channel}] of [[app, first], [second, other], [bobs, stranger]]) await client.removeChannel(channel);
  });

  // --- Who sees what

  await step('two users do not see each other', async () => {
    const tables = ['tasks', 'generations', 'shots', 'shot_generations', 'projects', 'credit_ledger'];
    const bindings = [...tables.map((table) => ({...every, table})), ...['tasks', 'generations', 'shots'].map((table) => ({...every, table, filter: `project_id=eq.${ada.project}`})),
      {event: 'DELETE', schema: 'public', table: 'shots'}];
    const hers = listen(app, 'everything', bindings);
    const his = listen(bobs, 'everything', bindings);
    await Promise.all([hers.joined(), his.joined()]);
    const touch = async (client, person) => {
      const made = await shot('mine', client, person);
      fine(await client.from('shots').update({name: 'still mine'}).eq('id', made.id));
      const generation = fine(await client.from('generations').insert({project_id: person.project, type: 'image', location: 'https://files.example.com/a.png'}).select().single());
      fine(await client.from('shot_generations').insert({shot_id: made.id, generation_id: generation.id}));
      fine(await client.from('generations').delete().eq('id', generation.id));
      fine(await client.from('shots').delete().eq('id', made.id));
    };
    await touch(bobs, bob);
    await finish();
    await touch(app, ada);
    await touch(bobs, bob);
    const gone = (one) => one.heard.filter((p) => p.table === 'shots' && p.eventType === 'DELETE').length;
    await until(() => gone(hers) >= 3 && gone(his) >= 4, () => [gone(hers), gone(his)]);
    const owners = (one) => [...new Set(one.heard.map((p) => p.new.owner_id ?? p.old.owner_id ?? p.new.project_id ?? p.old.project_id))].filter(Boolean).sort();
    same(owners(hers), [ada.id, ada.project].sort());
    same(owners(his), [bob.id, bob.project].sort());
    same(his.heard.filter((p) => JSON.stringify(p).includes(ada.id) || JSON.stringify(p).includes(ada.project)), []);
    same(hers.heard.filter((p) => JSON.stringify(p).includes(bob.id) || JSON.stringify(p).includes(bob.project)), []);
    await hers.end();
    await his.end();
  });

  // --- Tokens

  await step('a new token goes on where the old one was', async () => {
    const shots = listen(app, 'renewed', [{...every, table: 'shots'}]);
    await shots.joined();
    fine(await app.auth.refreshSession());
    const first = await shot('with a new session token');
    await until(() => shots.heard.length === 1, () => shots.statuses);
    const {client, renew} = await holder(ada, 20);
    const other = listen(client, 'renewed', [{...every, table: 'shots'}]);
    await other.joined();
    await renew(3600);
    const second = await shot('with another');
    await until(() => other.heard.length === 1, () => other.statuses);
    await past(20); // the first token is over
    const third = await shot('after the first token');
    await until(() => other.heard.length === 2, () => other.statuses);
    same(other.heard.map((p) => p.new.id), [second.id, third.id]);
    await until(() => shots.heard.length === 3, () => shots.statuses);
    same(shots.heard.map((p) => p.new.id), [first.id, second.id, third.id]);
    same([shots.names(), other.names()], [['SUBSCRIBED'], ['SUBSCRIBED']]);
    await shots.end();
    await other.end();
  });
  await step('a token that expires closes the channel, a good one opens it, and nothing is missing', async () => {
    const {client, renew} = await holder(ada, 4);
    const shots = listen(client, 'expiring', [{...every, table: 'shots'}]);
    await shots.joined();
    const first = await shot('before');
    await until(() => shots.heard.length === 1, () => shots.statuses);
    await until(() => shots.system.some((message) => message.status === 'error'), () => [shots.system, shots.statuses]);
    check(/expired/i.test(shots.system.find((message) => message.status === 'error').message), 'it says why', shots.system);
    await until(() => shots.names().includes('CHANNEL_ERROR'), () => shots.statuses);
    const second = await shot('while away');
    await renew(3600);
    await until(() => shots.names().at(-1) === 'SUBSCRIBED' && shots.names().length > 1, () => shots.statuses);
    const third = await shot('after');
    await until(() => shots.heard.some((p) => p.new.id === third.id), () => [shots.statuses, shots.heard]);
    same(distinct(shots.heard.map((p) => p.new.id)), [first.id, second.id, third.id]);
    await shots.end();
  });
  await step('who signs out hears no more', async () => {
    const client = await signIn(ada);
    const shots = listen(client, 'signed out', [{...every, table: 'shots'}]);
    await shots.joined();
    await client.auth.signOut({scope: 'local'});
    const marker = listen(app, 'marker', [{...every, table: 'shots'}]);
    await marker.joined();
    await shot('not for them');
    await until(() => marker.heard.length === 1, () => marker.statuses);
    await until(() => shots.names().includes('CHANNEL_ERROR'), () => shots.statuses);
    same(shots.heard, []);
    await marker.end();
    await shots.end();
  });
  await step('a first join without a token is refused, and then works', async () => {
    const storage = memory();
    const before = connect({auth: {storage, storageKey: 'shared'}});
    fine(await before.auth.signInWithPassword({email: ada.email, password: ada.password}));
    const fresh = connect({auth: {storage, storageKey: 'shared'}}); // a page that is loaded again
    const shots = listen(fresh, 'at once', [{...every, table: 'shots'}]);
    await shots.joined();
    if (env.newest) same(shots.names(), ['CHANNEL_ERROR', 'SUBSCRIBED']);
    const made = await shot('seen');
    await until(() => shots.heard.length === 1, () => shots.statuses);
    same(shots.heard[0].new.id, made.id);
    await shots.end();
  });

  // --- Refusals

  await step('what cannot be subscribed to is refused by name', async () => {
    const shots = {...every, table: 'shots'};
    const cases = [
      [[{...shots, filter: 'colour=eq.red'}], /colour/],
      [[{...shots, filter: 'name=fts.red'}], /name=fts\.red/],
      [[{...shots, filter: 'name'}], /"name"/],
      [[{...shots, filter: 'project_id=eq.7'}], /"7" is no uuid/],
      [[{...shots, filter: `name=in.(${Array.from({length: 101}, (_, n) => n).join(',')})`}], /100 values/],
      [[{...every, filter: 'name=eq.a'}], /filter needs a table/],
      [[{...every, table: 'timelines'}], /timelines/],
      [[{...every, table: 'users'}], /users/],
      [[{event: '*', schema: 'private', table: 'shots'}], /private/],
      [Array.from({length: 101}, (_, n) => ({...shots, filter: `name=eq.${n}`})), /at most 100 postgres_changes/],
    ];
    if (env.newest) cases.push([[{...shots, select: ['id']}], /select in postgres_changes/i]);
    for (const [bindings, pattern] of cases) {
      const channel = app.channel('refused');
      for (const binding of bindings) channel.on('postgres_changes', binding, () => {});
      const reason = await refusal(channel);
      check(pattern.test(reason), String(pattern), reason);
      await app.removeChannel(channel);
    }
    const good = listen(app, 'not refused', [shots]); // on the same socket
    await good.joined();
    await shot('fine');
    await until(() => good.heard.length === 1, () => good.statuses);
    await good.end();
  });
  await step('presence is refused, and harms no other', async () => {
    const shots = listen(app, 'without presence', [{...every, table: 'shots'}]);
    await shots.joined();
    const channel = app.channel('with presence').on('presence', {event: 'sync'}, () => {});
    if (env.newest) {
      check(/presence is not served/i.test(await refusal(channel)), 'it says what');
    } else { // the old client tells the server nothing of its listeners
      await subscribed(channel);
      same(await channel.track({at: 'the gallery'}), 'error');
    }
    await app.removeChannel(channel);
    same(await shots.channel.track({at: 'the gallery'}), 'error');
    await shot('still heard');
    await until(() => shots.heard.length === 1, () => shots.statuses);
    same(shots.names(), ['SUBSCRIBED']);
    await shots.end();
  });

  // --- Coming and going

  await step('a channel that is removed hears no more, others do', async () => {
    const leaving = listen(app, 'leaving', [{...every, table: 'shots'}]);
    const staying = listen(app, 'staying', [{...every, table: 'shots'}]);
    await Promise.all([leaving.joined(), staying.joined()]);
    same(await app.removeChannel(leaving.channel), 'ok');
    same(leaving.names(), ['SUBSCRIBED', 'CLOSED']);
    await shot('after');
    await until(() => staying.heard.length === 1, () => staying.statuses);
    same(leaving.heard, []);
    same(await staying.channel.unsubscribe(), 'ok');
    const again = listen(app, 'leaving', [{...every, table: 'shots'}]); // by the same name
    await again.joined();
    const made = await shot('again');
    await until(() => again.heard.length === 1, () => again.statuses);
    same(again.heard[0].new.id, made.id, 'and only what came after');
    same(staying.heard.length, 1);
    await again.end();
  });
  await step('SUBSCRIBED means live', async () => {
    for (let round = 0; round < 20; round++) {
      const heard = [];
      let made;
      const channel = app.channel(`round ${round}`).on('postgres_changes', {event: 'INSERT', schema: 'public', table: 'shots', filter: `project_id=eq.${ada.project}`}, (p) => heard.push(p.new.id));
      channel.subscribe((status) => { if (status === 'SUBSCRIBED') made ??= shot(`round ${round}`); });
      await until(() => made, () => channel.state);
      const {id} = await made;
      await until(() => heard.length > 0, () => round);
      same(heard, [id]);
      await app.removeChannel(channel);
    }
  });
  await step('connections that break lose nothing', async () => {
    const {client} = await holder(ada);
    const shots = listen(client, 'breaking', [{event: 'INSERT', schema: 'public', table: 'shots'}]);
    const filtered = listen(client, 'breaking too', [{event: 'INSERT', schema: 'public', table: 'shots', filter: `project_id=eq.${ada.project}`}]);
    await Promise.all([shots.joined(), filtered.joined()]);
    const made = [];
    for (let round = 0; round < 3; round++) {
      made.push((await shot(`before ${round}`)).id);
      same((await fetch(env.breaker, {method: 'POST'})).status, 204);
      made.push((await shot(`while away ${round}`)).id, (await shot(`and ${round}`)).id);
      await until(() => [shots, filtered].every((one) => one.names().filter((name) => name === 'SUBSCRIBED').length >= round + 2), () => [shots.statuses, filtered.statuses]);
      made.push((await shot(`back ${round}`)).id);
    }
    for (const one of [shots, filtered]) {
      await until(() => one.heard.some((p) => p.new.id === made.at(-1)), () => one.statuses);
      same(distinct(one.heard.map((p) => p.new.id)), made);
    }
    await shots.end();
    await filtered.end();
  });

  // --- Streams

  await step('a stream of server-sent events loses nothing when it breaks', async () => {
    const token = await tokenFor(ada, 3600);
    const got = [];
    const stream = events({url: `${env.url}/projects/${ada.project}/events`, token, seen: (event) => { if (event.data.table === 'shots') got.push(event.data); }});
    try {
      await stream.opened;
      const made = [];
      for (let round = 0; round < 3; round++) {
        made.push((await shot(`before ${round}`)).id);
        await until(() => got.some((data) => data.record.id === made.at(-1)), () => got);
        await fetch(env.breaker, {method: 'POST'});
        made.push((await shot(`while away ${round}`)).id);
      }
      made.push((await shot('last')).id);
      await until(() => got.some((data) => data.record.id === made.at(-1)), () => got);
      same(distinct(got.map((data) => data.record.id)), made);
    } finally {
      await stream.close();
    }
    const refusedOne = await fetch(`${env.url}/projects/${bob.project}/events`, {headers: {authorization: `Bearer ${token}`, apikey: env.anonKey}});
    same([refusedOne.status, (await refusedOne.json()).code], [404, 'TD020']);
    const nonsense = await fetch(`${env.url}/projects/${ada.project}/events`, {headers: {authorization: `Bearer ${token}`, apikey: env.anonKey, 'last-event-id': 'nonsense'}});
    same(nonsense.status, 400);
  });

  for (const client of opened) client.realtime.disconnect();
}

// listen subscribes to changes and keeps what comes.
function listen(client, name, bindings) {
  const one = {heard: [], system: [], statuses: []};
  one.channel = client.channel(name);
  for (const binding of bindings) one.channel.on('postgres_changes', binding, (payload) => one.heard.push(payload));
  one.channel.on('system', {}, (message) => one.system.push(message));
  one.channel.subscribe((status, error) => one.statuses.push([status, error?.message]));
  one.names = () => one.statuses.map(([status]) => status);
  one.joined = () => until(() => one.names().includes('SUBSCRIBED'), () => one.statuses);
  one.end = () => client.removeChannel(one.channel);
  return one;
}

// subscribed subscribes a channel, which must be let in at once.
async function subscribed(channel) {
  const statuses = [];
  channel.subscribe((status, error) => statuses.push([status, error?.message]));
  await until(() => statuses.length > 0, () => channel.state);
  same(statuses[0][0], 'SUBSCRIBED', JSON.stringify(statuses));
}

// refusal subscribes a channel, which must be refused, and returns why.
async function refusal(channel) {
  const statuses = [];
  channel.subscribe((status, error) => statuses.push([status, error?.message]));
  await until(() => statuses.length > 0, () => channel.state);
  same(statuses[0][0], 'CHANNEL_ERROR', JSON.stringify(statuses));
  return (statuses[0][1] ?? '').replaceAll('\\"', '"');
}

// distinct are the values in the order in which each came first: delivery is at least once.
const distinct = (values) => [...new Set(values)];

// past returns when so many seconds have gone by since the page asked for it: a token's life has no other sign.
const past = (seconds) => new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });

async function until(condition, seen) {
  const end = Date.now() + 30_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`it never came: ${JSON.stringify(seen())}`);
    await new Promise((resolve) => { setTimeout(resolve, 10); });
  }
}

// sign makes an access token.
async function sign(secret, claims) {
  const text = new TextEncoder();
  const base64 = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
  const signed = `${base64(text.encode('{"alg":"HS256","typ":"JWT"}'))}.${base64(text.encode(JSON.stringify(claims)))}`;
  const key = await crypto.subtle.importKey('raw', text.encode(secret), {name: 'HMAC', hash: 'SHA-256'}, false, ['sign']);
  return `${signed}.${base64(new Uint8Array(await crypto.subtle.sign('HMAC', key, text.encode(signed))))}`;
}
