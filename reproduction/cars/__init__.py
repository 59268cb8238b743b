"""The paper's cars (section 4.5): teachers of four kinds of traffic, one student for all."""
