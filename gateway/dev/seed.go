package dev

import (
	"bytes"
	"context"
	_ "embed" // of the statements
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"darkroom/gateway/storage"
	"darkroom/sql/taskdb"
	"darkroom/testdata/pictures"
)

// byHandSQL adds the task type that a person runs, and workerSQL is what they run it with.
var (
	//go:embed by_hand.sql
	byHandSQL string
	//go:embed worker.sql
	workerSQL string
)

// prompts are those of the sample pictures; the travel is made between the first two.
var prompts = []string{"a red apple", "a smiling cat on a blue background", "a rocket"}

const (
	travelTool = "travel-between-images"
	imageTool  = "image-generation"
	photoTitle = "coffee, cat, rocket"
	drawnTitle = "from the apple to the cat"
	byHandTool = "by-hand"
	// What the task by hand is completed with, one of the photographs; worker.sql asks for the same in its own words.
	byHandPicture, byHandPrompt = "cat.jpg", "a photograph of a cat"

	sampleKey  = "darkroom sample" // idempotency key of what is made once
	maxPicture = 10 << 20          // bytes
)

// seed makes what is missing of the sample data: a user with credits, a project, a shot, three photographs, a travel between them, and pictures
// from prompts.
func (r *runner) seed(ctx context.Context) error {
	if err := r.seedUser(ctx); err != nil {
		return err
	}
	urls, err := r.storePictures(ctx)
	if err != nil {
		return err
	}
	if _, err := r.db.GrantCredits(ctx, r.state.UserID, taskdb.WholeCredits(1000), sampleKey, "sample data"); err != nil {
		return fmt.Errorf("granting the sample credits: %w", err)
	}
	if err := r.seedProject(ctx); err != nil {
		return err
	}
	travel := r.travel(urls)
	body, err := json.MarshalIndent(travel, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the sample travel: %w", err)
	}
	if err := r.writeFile(travelFile, append(body, '\n')); err != nil {
		return err
	}
	if r.state.TaskID == uuid.Nil {
		travel.IdempotencyKey = sampleKey
		task, err := r.db.CreateTask(ctx, travel)
		if err != nil {
			return fmt.Errorf("creating the sample travel: %w", err)
		}
		r.state.TaskID = task.ID
	}
	if err := r.seedByHand(ctx); err != nil {
		return err
	}
	for number := len(r.state.Drawn); number < len(prompts); number++ {
		prompt := prompts[number]
		if err := r.draw(ctx, imageTool, prompt, map[string]any{"prompt": prompt, "seed": number + 1}); err != nil {
			return err
		}
	}
	return r.saveState()
}

// seedByHand makes a task that waits until a person does it, in the type for that.
func (r *runner) seedByHand(ctx context.Context) error {
	if _, err := r.pool.Exec(ctx, byHandSQL); err != nil {
		return fmt.Errorf("adding the type of task that a person runs: %w", err)
	}
	if r.state.ByHandID != uuid.Nil {
		return nil
	}
	input, err := json.Marshal(map[string]string{"prompt": byHandPrompt})
	if err != nil {
		panic(err) // of texts
	}
	task, err := r.db.CreateTask(ctx, taskdb.NewTask{
		ProjectID: r.state.ProjectID, ToolID: byHandTool, Input: input, IdempotencyKey: sampleKey + ": by hand",
	})
	if err != nil {
		return fmt.Errorf("creating the task that waits for a person: %w", err)
	}
	r.state.ByHandID = task.ID
	return r.saveState()
}

// seedDrawnTravel makes the travel between two of the pictures, which are done and lie at the addresses.
func (r *runner) seedDrawnTravel(ctx context.Context, start, end string) error {
	return r.draw(ctx, travelTool, drawnTitle, map[string]any{"orchestrator_details": map[string]any{
		"run_id": "drawn", "num_new_segments_to_generate": 1, "input_image_paths_resolved": []string{start, end},
		"segment_frames_expanded": []int{25}, "base_prompts_expanded": []string{drawnTitle}, "parsed_resolution_wh": "512x512", "fps_helpers": 12,
	}})
}

// draw creates a task whose result is made by the nets of the engine native, once.
func (r *runner) draw(ctx context.Context, tool, title string, params map[string]any) error {
	input, err := json.Marshal(params)
	if err != nil {
		panic(err) // of texts and numbers
	}
	task, err := r.db.CreateTask(ctx, taskdb.NewTask{ProjectID: r.state.ProjectID, ToolID: tool, Input: input, IdempotencyKey: sampleKey + ": " + title})
	if err != nil {
		return fmt.Errorf("creating the sample %q: %w", title, err)
	}
	r.state.Drawn = append(r.state.Drawn, sample{task.ID, title})
	return r.saveState()
}

// seedProject makes the project and the shot unless this database has them.
func (r *runner) seedProject(ctx context.Context) error {
	if r.state.ProjectID != uuid.Nil {
		_, err := r.db.ListGenerations(ctx, taskdb.Gallery{ProjectID: r.state.ProjectID, MaxRows: 1})
		if err == nil {
			return nil
		}
		if !errors.Is(err, taskdb.ErrProjectNotFound) {
			return fmt.Errorf("looking for the sample project: %w", err)
		}
		r.state.TaskID, r.state.ByHandID, r.state.Drawn = uuid.Nil, uuid.Nil, nil // another database
	}
	project, err := r.db.CreateProject(ctx, r.state.UserID, "Sample")
	if err != nil {
		return fmt.Errorf("making the sample project: %w", err)
	}
	shot, err := r.db.CreateShot(ctx, project.ID, "Coffee, cat, rocket")
	if err != nil {
		return fmt.Errorf("making the sample shot: %w", err)
	}
	r.state.ProjectID, r.state.ShotID = project.ID, shot.ID
	return r.saveState()
}

// storePictures puts the pictures where a user's uploads lie, and returns their addresses.
func (r *runner) storePictures(ctx context.Context) (urls []string, err error) {
	bucket, err := storage.Open(ctx, r.storage)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bucket.Close()) }()
	for _, name := range pictures.Names() {
		data, err := pictures.FS.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading the sample pictures: %w", err)
		}
		key := storage.UploadKey(r.state.UserID, name)
		if _, err := bucket.Put(ctx, key, bytes.NewReader(data), maxPicture); err != nil && !errors.Is(err, storage.ErrExists) {
			return nil, fmt.Errorf("storing the sample pictures: %w", err)
		}
		urls = append(urls, storage.URL(r.publicURL, key))
	}
	return urls, nil
}

// travel is the body of a task that makes one video of the pictures.
func (r *runner) travel(urls []string) taskdb.NewTask {
	details := struct {
		Run      string    `json:"run_id"`
		Shot     uuid.UUID `json:"shot_id"`
		Segments int       `json:"num_new_segments_to_generate"`
		Images   []string  `json:"input_image_paths_resolved"`
		Frames   []int     `json:"segment_frames_expanded"`
		Overlap  []int     `json:"frame_overlap_expanded"`
		Prompts  []string  `json:"base_prompts_expanded"`
		Size     string    `json:"parsed_resolution_wh"`
		FPS      int       `json:"fps_helpers"`
	}{
		"sample", r.state.ShotID, len(urls) - 1, urls,
		[]int{25, 25},
		[]int{4},
		[]string{"from the coffee to the cat", "from the cat to the rocket"},
		"768x512", 16,
	}
	input, err := json.Marshal(map[string]any{"orchestrator_details": details})
	if err != nil {
		panic(err) // of texts and numbers
	}
	return taskdb.NewTask{ProjectID: r.state.ProjectID, ToolID: travelTool, Input: input}
}
