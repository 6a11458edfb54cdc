package clients_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"darkroom/sql/taskdb"
)

// name is a text that was never used.
func (s *storm) name() string { return fmt.Sprintf("n%d", s.names.Add(1)) }

// write makes one transaction after another, not faster than the storm's rate.
func (s *storm) write(ctx context.Context, random *rand.Rand) {
	pace := time.NewTicker(time.Second * time.Duration(s.size.writers) * perTransaction / time.Duration(s.size.rate))
	defer pace.Stop()
	mine := map[uuid.UUID][]uuid.UUID{} // shots, by project
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		a := s.accounts[random.IntN(len(s.accounts))]
		n := random.IntN(len(a.projects))
		if random.IntN(6) == 0 {
			if s.runTask(ctx, a.projects[n]) != nil {
				s.failures.Add(1)
			}
			continue
		}
		s.transaction(ctx, a.projects[n], a.hot[n], mine, random)
	}
}

const perTransaction = 8 // events, about

var errTurnedBack = errors.New("turned back")

// transaction makes, changes and deletes rows, and is turned back now and then.
func (s *storm) transaction(ctx context.Context, project, hot uuid.UUID, mine map[uuid.UUID][]uuid.UUID, random *rand.Rand) {
	var made []uuid.UUID
	var rows int64
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		do := func(id uuid.UUID, sql string, args ...any) error {
			tag, err := tx.Exec(ctx, sql, append([]any{id}, args...)...)
			rows += tag.RowsAffected()
			return err
		}
		shot, generation, placed := uuid.New(), uuid.New(), uuid.New()
		err := errors.Join(
			do(shot, "insert into shots (id, project_id, name) values ($1, $2, $3)", project, s.name()),
			do(generation, "insert into generations (id, project_id, type, location, metadata) values ($1, $2, 'image', 'https://files.example.com/a.png', jsonb_build_object('n', $3::text))", project, s.name()),
			do(placed, "insert into shot_generations (id, shot_id, generation_id, position) values ($1, $2, $3, 1)", shot, generation),
		)
		for n := range random.IntN(4) {
			err = errors.Join(err, do(shot, "update shots set name = $2 where id = $1", s.name()), do(placed, "update shot_generations set position = $2 where id = $1", n+2))
		}
		if random.IntN(4) == 0 { // a part is turned back
			part := pgx.BeginFunc(ctx, tx, func(part pgx.Tx) error {
				if _, err := part.Exec(ctx, "update shots set name = 'never' where id = $1", shot); err != nil {
					return err
				}
				return errTurnedBack
			})
			err = errors.Join(err, onlyFaults(part))
		}
		if list := mine[project]; len(list) > 0 && random.IntN(2) == 0 {
			at := random.IntN(len(list))
			err = errors.Join(err, do(list[at], "delete from shots where id = $1"))
			mine[project] = slices.Delete(list, at, at+1)
		}
		if random.IntN(3) == 0 { // last, because others wait for it
			err = errors.Join(err, do(hot, "update shots set name = $2 where id = $1", s.name()))
		}
		if err == nil && random.IntN(10) == 0 {
			err = errTurnedBack
		}
		made = append(made, shot)
		return err
	})
	if err != nil {
		s.failures.Add(1)
		return
	}
	mine[project] = append(mine[project], made...)
	s.stored.Add(rows)
}

// onlyFaults leaves out what was to be.
func onlyFaults(err error) error {
	if errors.Is(err, errTurnedBack) {
		return nil
	}
	return err
}

// writeLong holds a transaction open while hundreds of others commit, again and again.
func (s *storm) writeLong(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			for _, a := range s.accounts {
				for _, project := range a.projects {
					if _, err := tx.Exec(ctx, "insert into shots (project_id, name) values ($1, $2)", project, s.name()); err != nil {
						return err
					}
				}
			}
			held, cancel := context.WithTimeout(ctx, 10*time.Second) // a database that was restarted is noticed
			defer cancel()
			s.reach(held, s.stored.Load()+s.size.events/20)
			_, err := tx.Exec(context.WithoutCancel(ctx), "update shots set name = $2 where id = $1", s.accounts[n%len(s.accounts)].hot[0], s.name())
			return err
		})
		if err != nil {
			s.failures.Add(1)
			continue
		}
		s.stored.Add(int64(2 * len(s.accounts)))
	}
}

// runTask makes a task and runs it to its end.
func (s *storm) runTask(ctx context.Context, project uuid.UUID) error {
	_, err := s.db.CreateTask(ctx, taskdb.NewTask{ProjectID: project, ToolID: "image-generation", Input: json.RawMessage(`{"prompt": "a storm"}`)})
	if err != nil {
		return err
	}
	s.stored.Add(1)
	task, found, err := s.db.ClaimNextTask(ctx, "gpu-1")
	if err != nil || !found {
		return err
	}
	const ofClaimAndCompletion = 5
	_, err = s.db.CompleteTask(ctx, taskdb.Hold{TaskID: task.ID, WorkerID: "gpu-1", Attempt: task.Attempt}, taskdb.Output{Location: "https://files.example.com/a.png"})
	s.stored.Add(ofClaimAndCompletion)
	return err
}
