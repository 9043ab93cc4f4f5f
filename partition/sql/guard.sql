-- Before DETACH takes the parent's row triggers off the table.
CREATE OR REPLACE TRIGGER append_only_detached BEFORE UPDATE OR DELETE ON {{schema}}.{{leaf}}
    FOR EACH ROW EXECUTE FUNCTION {{schema}}.refuse_change()
